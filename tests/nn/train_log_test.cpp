// Every field of a line of log.jsonl, from a real run.
#include "nn/train_log.h"

#include <doctest/doctest.h>

#include <chrono>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/machine.h"
#include "nn/checkpoint/run_folder.h"
#include "nn/data/shapes.h"
#include "nn/dit.h"
#include "nn/json.h"
#include "tests/support/child_process.h"
#include "tests/support/files.h"

namespace {

using namespace llsa;
using namespace llsa::nn;

/// A run of five steps that reports after steps 2, 4 and 5.
struct TinyRun {
  test::TempDir dir;
  TrainOptions options;
  std::vector<StepReport> reports;
  std::string machine;             // the first line of log.jsonl
  std::vector<std::string> lines;  // the others
  double seconds = 0;

  TinyRun() {
    ShapesOptions shapes;
    shapes.out = dir / "shapes";
    shapes.count = 5;
    shapes.size = 8;
    write_shapes(shapes);
    options.data = shapes.out;
    options.device = "cpu";
    options.model.height = options.model.width = 8;
    options.model.head_dim = 8;
    options.model.layers = 1;
    options.steps = 5;
    options.batch = 3;
    options.accumulate = 2;
    options.lr = 1e-3;
    options.warmup = 4;
    options.log_every = 2;
    options.sample_every = options.save_every = 0;
    options.threads = 1;
    TrainCallbacks callbacks;
    callbacks.on_report = [this](const StepReport& report) { reports.push_back(report); };
    const auto start = std::chrono::steady_clock::now();
    train(options, dir / "run", false, callbacks);
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::istringstream log(test::read_file(RunFolder(dir / "run").log_path()));
    std::getline(log, machine);
    for (std::string line; std::getline(log, line);) lines.push_back(line);
  }
};

constexpr std::int64_t kMostBytes = std::int64_t{1} << 34;

}  // namespace

TEST_SUITE_BEGIN("nn/train_log");

TEST_CASE("the fields of a line: names, types, values") {
  const TinyRun run;
  const std::vector<std::int64_t> steps = {2, 4, 5};
  const std::vector<double> rates = {0.5e-3, 1e-3, 1e-3};  // lr / warmup to lr over the first `warmup` steps
  REQUIRE(run.lines.size() == 3);
  REQUIRE(run.reports.size() == 3);
  Context ctx(1);
  const std::int64_t parameters = Dit(ctx, run.options.model, 0).parameters().parameter_count();
  for (std::size_t i = 0; i < 3; ++i) {
    CAPTURE(run.lines[i]);
    const StepReport& report = run.reports[i];
    JsonObject json(run.lines[i], "log.jsonl");
    std::vector<std::string> names;
    for (const auto& entry : json.entries()) names.push_back(entry.first);
    CHECK(names == std::vector<std::string>{"step", "loss", "gradient_norm", "learning_rate",
                                            "tokens_per_second", "data_wait", "memory_active",
                                            "memory_cached", "memory_reserved", "memory_peak"});
    // The getters throw for another type, or a value outside the range.
    CHECK(json.integer("step", -1, 1, 5) == steps[i]);
    CHECK(report.step == steps[i]);
    const double loss =
        json.number("loss", -1, 0.1, 10);  // noise and pixels in [-1, 1] have variances near 1
    CHECK(loss == report.loss);
    const double norm = json.number("gradient_norm", -1, 1e-3, 100);
    CHECK(norm == report.gradient_norm);
    const double rate = json.number("learning_rate", -1, 0, 1);
    CHECK(rate == doctest::Approx(rates[i]).epsilon(1e-12));
    CHECK(rate == report.learning_rate);
    const auto tokens = static_cast<double>((steps[i] - (i > 0 ? steps[i - 1] : 0)) * 2 * 3 * 64);
    const double speed = json.number("tokens_per_second", -1, 0, 1e12);
    CHECK(speed >= tokens / run.seconds);
    CHECK(speed == report.tokens_per_second);
    CHECK(json.number("data_wait", -1, 0, 1) == report.data_wait);
    const std::int64_t active = json.integer("memory_active", -1, 1, kMostBytes);
    CHECK(active >= 5 * 4 * parameters);  // f32: weights, gradients, two moments, the average
    CHECK(active == static_cast<std::int64_t>(report.memory.active));
    CHECK(json.integer("memory_cached", -1, 1, kMostBytes) ==
          static_cast<std::int64_t>(report.memory.cached));
    CHECK(json.integer("memory_reserved", -1, 0, kMostBytes) == 0);  // no graphs on the CPU
    const std::int64_t peak = json.integer("memory_peak", -1, active + 1, kMostBytes);
    CHECK(peak == static_cast<std::int64_t>(report.memory.peak));
    CHECK_NOTHROW(json.finish());
  }
}

TEST_CASE("the first line names program, libraries and machine") {
  const TinyRun run;
  CAPTURE(run.machine);
  JsonObject json(run.machine, "log.jsonl");
  CHECK(json.integer("step", -1, 0, 9) == 0);
  const std::string machine = json.string("machine", "");
  CHECK_NOTHROW(json.finish());
  CHECK(machine.starts_with("llsa "));
  for (const std::string& part :
       {std::string("compiler version " __VERSION__), processor_name(),
        cat(available_processors(), " processors"), std::string(" of memory, Linux "),
        std::string("computing on cpu, oneDNN "), std::string(", with 1 threads")})
    CHECK_MESSAGE(machine.find(part) != std::string::npos, part);
}

TEST_CASE("numbers that are not finite stand as strings") {
  const test::TempDir dir;
  StepReport report;
  report.loss = std::numeric_limits<double>::quiet_NaN();
  report.gradient_norm = std::numeric_limits<double>::infinity();
  TrainLog(dir / "log.jsonl", 0, [](const std::string&) {}).write(report);
  JsonObject json(test::read_file(dir / "log.jsonl"), "log.jsonl");
  CHECK(json.string("loss", "") == "NaN");
  CHECK(json.string("gradient_norm", "") == "Infinity");
}

TEST_CASE("what is no line of a log is removed on resume, told and noted; the lines around it stay") {
  const test::TempDir dir;
  const std::string path = dir / "log.jsonl";
  test::write_file(path,
                   "{\"step\": 2, \"loss\": 1}\nstep 3/9  loss 1.0\n{\"step\": 4, \"held_out_loss\": 1}\n"
                   "{\"step\": 9, \"loss\": 1}\n{\"step\": 4, \"lo");
  std::string told;
  const auto tell = [&](const std::string& text) { told += text; };
  CHECK(TrainLog(path, 5, tell).evaluated_step() == 4);
  const std::string note =
      "removed from the log what is no line of it: 2 lines, the last one written in part";
  CHECK(told == note);
  const std::string expected =
      "{\"step\": 2, \"loss\": 1}\n{\"step\": 4, \"held_out_loss\": 1}\n{\"step\": 5, \"notes\": [\"" + note +
      "\"]}\n";
  CHECK(test::read_file(path) == expected);
  told.clear();
  { TrainLog(path, 5, tell); }
  CHECK(told == "");
  CHECK(test::read_file(path) == expected);
}

TEST_CASE("a log on a full disk is told once, and its lines stay whole") {
  const test::TempDir dir;
  const int code = test::run_in_child([&] {
    int told = 0;
    TrainLog log(dir / "log.jsonl", 0, [&](const std::string&) { ++told; });
    log.write(1, {"short"});
    test::limit_file_size(50);
    for (int i = 0; i < 3; ++i) log.write(2, {"a line that is longer than what the disk still takes"});
    log.write(3, {});
    return told;
  });
  CHECK(code == 1);
  CHECK(test::read_file(dir / "log.jsonl") == "{\"step\": 1, \"notes\": [\"short\"]}\n");
}

TEST_SUITE_END();

// Whole runs on a few tiny images: what they write, what they refuse, divergence, full disks.
#include "nn/train_folder.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/safetensors.h"
#include "core/text_file.h"
#include "kernels/copy.h"
#include "nn/checkpoint/training_state.h"
#include "tests/nn/train_runs.h"
#include "tests/support/child_process.h"
#include "tests/support/text.h"

namespace {

using namespace llsa;
using namespace llsa::nn;
using llsa::test::contains;
namespace fs = std::filesystem;

}  // namespace

TEST_SUITE_BEGIN("nn/train_folder");

TEST_CASE("a run writes configuration, log, grids and the last checkpoints") {
  const test::TempDir dir;
  TrainOptions options = tiny_options();
  options.sample_every = 10;
  options.sample_count = 5;
  options.sample_steps = 2;
  options.save_every = 4;
  options.keep = 2;
  std::vector<StepReport> reports;
  TrainCallbacks callbacks;
  callbacks.on_report = [&](const StepReport& report) { reports.push_back(report); };
  train(options, dir / "run", false, callbacks);

  const RunFolder files(dir / "run");
  const auto checkpoints = files.checkpoints();
  REQUIRE(checkpoints.size() == 2);
  CHECK(checkpoints[0].step == 16);
  CHECK(checkpoints[1].step == 20);
  CHECK(fs::exists(files.sample_path(10)));
  CHECK(fs::exists(files.sample_path(20)));
  REQUIRE(reports.size() == 4);
  CHECK(reports.back().step == 20);
  CHECK(reports.back().loss < reports.front().loss);
  CHECK(reports.front().memory.peak > 0);
  const std::string log = test::read_file(files.log_path());
  CHECK(std::count(log.begin(), log.end(), '\n') == 5);  // with that of the machine
  // What was stored is the whole configuration, with what depends on the data filled in.
  const TrainOptions stored = TrainOptions::parse(test::read_file(files.config_path()), "config.json");
  CHECK(stored.model.classes == 4);
  CHECK(stored.model.attention == AttentionKind::llsa);
  const DiffusersModel published = read_diffusers_model(checkpoints[1].path);
  CHECK(published.class_names == shape_names());
}

TEST_CASE("a resumed log has every step once") {
  const test::TempDir dir;
  TrainOptions options = tiny_options();
  options.schedule = "constant";
  options.log_every = 2;
  options.save_every = 5;
  options.steps = 8;
  run(options, dir / "run", false, stopping_after(8));
  fs::remove_all(RunFolder(dir / "run").latest()->path);  // as if killed after step 5's checkpoint
  test::write_file(dir / "run/log.jsonl", test::read_file(dir / "run/log.jsonl") + "{\"step\": 9, \"lo");
  options.steps = 10;
  run(options, dir / "run", true);
  const std::string log = test::read_file(dir / "run/log.jsonl");
  CHECK(std::count(log.begin(), log.end(), '\n') == 8);  // two machines, and that a torn one was removed
  CHECK(contains(log, "\"step\": 4,"));
  CHECK(contains(log, "\"step\": 10,"));
}

TEST_CASE("losses since the last report are in the log when a run is stopped") {
  const test::TempDir dir;
  std::vector<std::int64_t> reported;
  TrainCallbacks callbacks = stopping_after(7);
  callbacks.on_report = [&](const StepReport& report) { reported.push_back(report.step); };
  const TrainResult stopped = run(tiny_options(), dir / "run", false, callbacks);
  CHECK(reported == std::vector<std::int64_t>{5, 7});
  CHECK(stopped.loss > 0);
}

TEST_CASE("the host hears of the fifth step after a start, which is not in the log") {
  const test::TempDir dir;
  std::vector<StepReport> reports;
  TrainCallbacks callbacks = stopping_after(12);
  callbacks.on_report = [&](const StepReport& report) { reports.push_back(report); };
  TrainOptions options = tiny_options();
  options.log_every = 10;
  run(options, dir / "run", false, callbacks);
  run(options, dir / "run", true, callbacks);
  std::vector<std::int64_t> steps;
  for (const StepReport& report : reports) {
    steps.push_back(report.step);
    CHECK(report.remaining_seconds >= 0);
  }
  CHECK(steps == std::vector<std::int64_t>{5, 10, 12, 17, 20});
  CHECK(reports[0].remaining_seconds > 0);
  const std::string log = test::read_file(dir / "run/log.jsonl");
  CHECK(std::count(log.begin(), log.end(), '\n') == 5);  // steps 10, 12 and 20, and two machines
  CHECK_FALSE(contains(log, "\"step\": 5,"));
}

TEST_CASE("two runs cannot train in one folder") {
  const test::TempDir dir;
  TrainOptions options = tiny_options();
  options.steps = 2;
  run(options, dir / "run");
  options.steps = 4;
  {
    RunFolder other(dir / "run");
    other.prepare();
    const std::string unfinished = dir / "run/checkpoints/.step_000000003.tmp-1-1";
    fs::create_directory(unfinished);
    CHECK(contains(failure_of<IoError>(options, dir / "run", true), "another process trains in"));
    CHECK(fs::exists(unfinished));
  }
  CHECK(run(options, dir / "run", true).step == 4);
}

TEST_CASE("names of classes and folders need not be UTF-8") {
  const test::TempDir dir;
  const std::string data = dir / "data\xe9";
  fs::create_directory(data);
  fs::copy(fs::path(shapes_folder()) / "circle", fs::path(data) / "caf\xe9");
  fs::copy(fs::path(shapes_folder()) / "ring", fs::path(data) / "ring");
  TrainOptions options = tiny_options();
  options.data = data;
  options.steps = 2;
  const TrainResult result = run(options, dir / "run");
  CHECK(read_diffusers_model(result.checkpoint).class_names.size() == 2);
}

TEST_CASE("divergence stops the run, names step and op, and leaves the last good checkpoint") {
  const test::TempDir dir;
  TrainOptions options = tiny_options();
  options.schedule = "constant";
  options.save_every = 1;
  options.log_every = 4;
  options.warmup = 0;
  options.steps = 3;
  run(options, dir / "run");
  // A weight of the checkpoint becomes so large that the next step overflows.
  const std::string state = RunFolder(dir / "run").latest()->path + "/training_state/state.safetensors";
  {
    Context ctx(1);
    std::vector<std::pair<std::string, Tensor>> tensors;
    const SafetensorsFile file(state);
    for (const auto& [name, tensor] : file.tensors()) {
      tensors.emplace_back(name, kernels::clone(ctx, tensor));
      if (name == "weights.proj_in.weight") kernels::fill(ctx, tensors.back().second, 3e38);
    }
    write_safetensors(state, tensors);
    fs::remove(RunFolder(dir / "run").latest()->path + "/checksums.xxh64");
  }
  options.steps = 20;
  std::string hint;
  const std::string message = failure_of<NonFiniteError>(options, dir / "run", true, &hint);
  CHECK(contains(message, "step 4"));
  CHECK(contains(message, "linear"));
  CHECK(contains(hint, "step_000000003"));
  CHECK(RunFolder(dir / "run").latest()->step == 3);
  const std::string log = read_text_file(dir / "run/log.jsonl");
  const std::string last = log.substr(log.rfind('\n', log.size() - 2) + 1);
  CAPTURE(last);
  CHECK(contains(last, "\"step\": 4,"));
  CHECK((contains(last, "\"NaN\"") || contains(last, "Infinity\"")));
}

TEST_CASE("a damaged training state is refused by name, with the way to the checkpoint before it") {
  const test::TempDir dir;
  TrainOptions options = tiny_options();
  options.save_every = 1;
  options.steps = 2;
  run(options, dir / "run");
  const std::string state = RunFolder(dir / "run").latest()->path + "/training_state/";
  options.steps = 4;
  for (const char* const file : {"state.safetensors", "config.json"}) {
    CAPTURE(std::string(file));
    const std::string whole = read_text_file(state + file);
    test::write_file(state + file, whole.substr(0, whole.size() / 2));
    std::string hint;
    CHECK(contains(failure_of<Error>(options, dir / "run", true, &hint), file));
    CHECK(contains(hint, "go on from step 1"));
    test::write_file(state + file, whole);
  }
  CHECK(run(options, dir / "run", true).step == 4);
}

TEST_CASE("one flipped bit in any file of a checkpoint is found, with the way to the checkpoint before it") {
  const test::TempDir dir;
  TrainOptions options = tiny_options();
  options.save_every = 1;
  options.steps = 2;
  run(options, dir / "run");
  const std::string checkpoint = RunFolder(dir / "run").latest()->path;
  std::vector<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(checkpoint))
    if (entry.is_regular_file()) files.push_back(entry.path().string());
  // Of the ten, the checksums have none themselves, and the index is for other programs.
  std::erase_if(files, [](const std::string& path) {
    return contains(path, "checksums.xxh64") || contains(path, "model_index.json");
  });
  CHECK(files.size() == 8);
  Context ctx(1);
  int flips = 0;
  for (const std::string& path : files) {
    CAPTURE(path);
    // The configuration of the model, its classes and its noise scale are read to draw, the rest to go on.
    const bool resumed = contains(path, "training_state") || contains(path, "safetensors");
    const std::string whole = test::read_file(path);
    for (std::size_t i = 0; i < 15; ++i) {
      std::string flipped = whole;
      const std::size_t byte = (i * 7919 + 3) * (whole.size() / 15) / 7919 % whole.size();
      flipped[byte] = static_cast<char>(flipped[byte] ^ (1 << (i % 8)));
      CAPTURE(byte);
      test::write_file(path, flipped);
      std::string hint, said;
      if (resumed) {
        said = failure_of<Error>(options, dir / "run", true, &hint);
      } else {
        try {
          load_diffusers_model(ctx, checkpoint);
        } catch (const Error& error) {
          said = error.what();
          hint = error.hint();
        }
      }
      CHECK(contains(said, path));
      CHECK(contains(hint, "go on from step 1"));
      ++flips;
    }
    test::write_file(path, whole);
  }
  CHECK(flips == 8 * 15);
}

TEST_CASE("a checkpoint under another step's name is refused") {
  const test::TempDir dir;
  TrainOptions options = tiny_options();
  options.steps = 2;
  const std::string checkpoint = run(options, dir / "run").checkpoint;
  fs::rename(checkpoint, RunFolder(dir / "run").checkpoint_path(7));
  CHECK(contains(failure_of<ValueError>(options, dir / "run", true), "that of step 2"));
}

TEST_CASE("tuning on the cpu is a note, changes nothing, and what an earlier run has left is removed") {
  const test::TempDir dir;
  TrainOptions options = tiny_options();
  options.device = "cpu";
  options.steps = 2;
  const std::string expected = state_bytes(run(options, dir / "plain").checkpoint);
  options.tune = true;
  std::string messages;
  TrainCallbacks callbacks;
  callbacks.on_message = [&](const std::string& text) { messages += text + "\n"; };
  fs::create_directory(dir / "tuned");
  test::write_file(dir / "tuned/tuning.json", "of a run without a checkpoint");
  CHECK(state_bytes(run(options, dir / "tuned", false, callbacks).checkpoint) == expected);
  CHECK(contains(messages, "nothing to choose"));
  CHECK_FALSE(fs::exists(dir / "tuned/tuning.json"));
}

TEST_CASE("sides that the patch does not divide name the nearest sizes") {
  const test::TempDir dir;
  TrainOptions options = tiny_options();
  options.model.patch = 3;
  std::string hint;
  CHECK(contains(failure_of<ValueError>(options, dir / "run", false, &hint), "8x8"));
  CHECK(contains(hint, "6"));
  CHECK(contains(hint, "9"));
}

TEST_CASE("training at sides that are no powers of two, with patches, without classes") {
  const test::TempDir dir;
  TrainOptions options = tiny_options();
  options.model.height = 10;
  options.model.width = 6;
  options.model.patch = 2;
  options.model_classes = 0;
  options.model.attention = AttentionKind::automatic;
  options.steps = 2;
  const TrainResult result = run(options, dir / "run");
  CHECK(result.step == 2);
  CHECK(read_diffusers_model(result.checkpoint).config.attention == AttentionKind::full);
}

TEST_CASE("a run starts from the weights of another resolution") {
  const test::TempDir dir;
  TrainOptions options = tiny_options();
  options.steps = 2;
  run(options, dir / "small");
  options.model.height = options.model.width = 12;
  options.init_from = dir / "small";
  std::string messages;
  TrainCallbacks callbacks;
  callbacks.on_message = [&](const std::string& text) { messages += text + "\n"; };
  CHECK(train(options, dir / "large", false, callbacks).step == 2);
  CHECK(contains(messages, "resized from"));
  options.model.layers = 3;
  CHECK(contains(failure_of<IoError>(options, dir / "deep"), "missing"));
}

TEST_CASE("a run starts from the weights of another kind of attention") {
  const test::TempDir dir;
  TrainOptions options = tiny_options();
  options.steps = 2;
  std::string messages;
  TrainCallbacks callbacks;
  callbacks.on_message = [&](const std::string& text) { messages += text + "\n"; };
  std::string before;
  for (const auto& step : {std::pair{AttentionKind::vsa, ""},
                           {AttentionKind::sla, "proj_l: it starts at zero"},
                           {AttentionKind::llsa, "proj_l is not used"},
                           {AttentionKind::vsa, "to_gate_compress: it starts at zero"},
                           {AttentionKind::full, "to_gate_compress is not used"}}) {
    options.model.attention = step.first;
    const std::string name = dir / cat(name_of(step.first), before.size());
    options.init_from = before;
    messages.clear();
    CHECK(train(options, name, false, callbacks).step == 2);
    CHECK(contains(messages, step.second));
    before = name;
  }
}

TEST_CASE("a folder that cannot be written to is named before any work") {
  const test::TempDir dir;
  fs::permissions(dir.path(), fs::perms{0555});
  TrainOptions options = tiny_options();
  options.threads = 1;
  CHECK(test::run_as_ordinary_user(
            [&] { return contains(failure_of<IoError>(options, dir / "run"), dir / "run") ? 0 : 1; }) == 0);
}

TEST_CASE("a full disk while saving leaves the earlier checkpoint and no half of a new one") {
  const test::TempDir dir;
  TrainOptions options = tiny_options();
  options.steps = 2;
  options.threads = 1;
  run(options, dir / "run");
  options.steps = 4;
  const int code = test::run_in_child([&] {
    test::limit_file_size(20'000);
    return contains(failure_of<IoError>(options, dir / "run", true), "safetensors") ? 0 : 1;
  });
  CHECK(code == 0);
  const RunFolder files(dir / "run");
  REQUIRE(files.checkpoints().size() == 1);
  CHECK(files.latest()->step == 2);
  CHECK(std::distance(fs::directory_iterator(dir / "run/checkpoints"), fs::directory_iterator()) == 1);
  CHECK(run(options, dir / "run", true).step == 4);
}

TEST_SUITE_END();

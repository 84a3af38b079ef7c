// How runs end: whatever ends a run, the steps that were done are saved. Failures that do not touch the weights do not end
// it.
#include <doctest/doctest.h>

#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <utility>

#include "core/error.h"
#include "nn/train_folder.h"
#include "tests/nn/train_runs.h"
#include "tests/support/child_process.h"
#include "tests/support/text.h"

namespace {

using namespace llsa;
using namespace llsa::nn;
using llsa::test::contains;
namespace fs = std::filesystem;

// Options that save at the end only.
TrainOptions unsaved_options() {
  TrainOptions options = tiny_options();
  options.schedule = "constant";
  options.steps = 8;
  options.log_every = 1;
  return options;
}

std::string uninterrupted(const test::TempDir& dir) {
  return state_bytes(run(unsaved_options(), dir / "whole").checkpoint);
}

}  // namespace

TEST_SUITE_BEGIN("nn/train_exit");

TEST_CASE("a callback that throws leaves a checkpoint to go on from, with the same bits") {
  const test::TempDir dir;
  const std::string expected = uninterrupted(dir);
  for (const std::string which : {"report", "message", "stop"}) {
    CAPTURE(which);
    TrainCallbacks callbacks;
    std::int64_t steps = 0;
    callbacks.on_report = [&](const StepReport& report) {
      steps = report.step;
      if (which == "report" && steps == 5) throw std::runtime_error("host");
    };
    callbacks.should_stop = [&] {
      if (which != "report" && steps == 5) throw std::runtime_error("host");
      return false;
    };
    if (which == "message")
      callbacks.on_message = [&](const std::string&) {
        if (steps == 5) throw std::runtime_error("message");
      };
    CHECK_THROWS_WITH(run(unsaved_options(), dir / which, false, callbacks), "host");
    REQUIRE(RunFolder(dir / which).latest());
    CHECK(RunFolder(dir / which).latest()->step == 5);
    CHECK(state_bytes(run(unsaved_options(), dir / which, true).checkpoint) == expected);
  }
}

TEST_CASE("when the images go away, the steps that were done are saved") {
  const test::TempDir dir;
  const std::string expected = uninterrupted(dir);
  fs::copy(shapes_folder(), dir / "images", fs::copy_options::recursive);
  TrainOptions options = unsaved_options();
  options.data = dir / "images";
  options.cache_mb = 0;
  options.steps = 1000;
  std::string messages;
  TrainCallbacks callbacks;
  callbacks.on_message = [&](const std::string& text) { messages += text + "\n"; };
  callbacks.on_report = [&](const StepReport& report) {
    if (report.step == 2) fs::rename(dir / "images", dir / "away");
  };
  CHECK_THROWS_AS(run(options, dir / "run", false, callbacks), IoError);
  CHECK(contains(messages, "before the failure"));
  REQUIRE(RunFolder(dir / "run").latest());
  CHECK(RunFolder(dir / "run").latest()->step >= 2);
  CHECK(RunFolder(dir / "run").latest()->step <= 8);  // batches that were ready
  options.steps = 8;
  options.data = dir / "away";
  CHECK(state_bytes(run(options, dir / "run", true).checkpoint) == expected);
}

TEST_CASE("a stop between micro-batches gives the step up, and it is done again") {
  const test::TempDir dir;
  TrainOptions options = unsaved_options();
  options.accumulate = 4;
  options.steps = 3;
  const std::string expected = state_bytes(run(options, dir / "whole").checkpoint);
  const TrainResult stopped = run(options, dir / "run", false, stopping_after(7));  // in the second step
  CHECK(stopped.stopped);
  CHECK(stopped.step == 1);
  CHECK(state_bytes(run(options, dir / "run", true).checkpoint) == expected);
}

TEST_CASE("a grid, a held-out loss or a log that fails is told and ends nothing") {
  const test::TempDir dir;
  const std::string expected = uninterrupted(dir);
  std::string messages;
  TrainCallbacks callbacks;
  callbacks.on_message = [&](const std::string& text) { messages += text + "\n"; };

  TrainOptions options = unsaved_options();
  options.sample_every = 4;
  fs::create_directories(RunFolder(dir / "grid").sample_path(4));
  CHECK(state_bytes(run(options, dir / "grid", false, callbacks).checkpoint) == expected);
  CHECK(contains(messages, "warning: no sample grid of step 4"));
  CHECK(contains(messages, "no regular file"));
  CHECK(fs::exists(RunFolder(dir / "grid").sample_path(8)));

  fs::copy(shapes_folder(), dir / "others", fs::copy_options::recursive);
  options = unsaved_options();
  options.held_out = dir / "others";
  options.eval_every = 4;
  callbacks.on_report = [&](const StepReport& report) {
    if (report.step == 1) fs::remove_all(dir / "others");
  };
  CHECK(state_bytes(run(options, dir / "held_out", false, callbacks).checkpoint) == expected);
  CHECK(contains(messages, "warning: no evaluation of step 4"));

  callbacks.on_report = {};
  const int code = test::run_in_child([&] {
    TrainOptions alone = unsaved_options();
    alone.threads = 1;
    messages.clear();
    run(alone, dir / "log", false, stopping_after(1));
    // The log may take no other line; a checkpoint is longer, so that there must be none before the limit is lifted.
    const auto full = fs::file_size(dir / "log/log.jsonl") + 20;
    signal(SIGXFSZ, SIG_IGN);
    rlimit limit{full, RLIM_INFINITY};
    callbacks.on_report = [&](const StepReport& report) {
      limit.rlim_cur = report.step < 7 ? full : RLIM_INFINITY;
      setrlimit(RLIMIT_FSIZE, &limit);
    };
    const std::string checkpoint = run(alone, dir / "log", true, callbacks).checkpoint;
    return contains(messages, "warning: cannot write") && state_bytes(checkpoint) == expected ? 0 : 1;
  });
  CHECK(code == 0);
  const std::string log = test::read_file(dir / "log/log.jsonl");
  CAPTURE(log);
  CHECK_FALSE(contains(log, "\"step\": 4"));
  CHECK(contains(log, "\"step\": 8"));
}

TEST_CASE("a checkpoint on a full disk is told and tried again; the last one has to be written") {
  const test::TempDir dir;
  TrainOptions options = unsaved_options();
  options.threads = 1;
  options.save_every = 2;
  const std::string expected = state_bytes(run(options, dir / "whole").checkpoint);
  // The disk is full after the steps from `first` to `last`: any file of weights is longer than this.
  const auto full_disk = [&](std::string& messages, std::int64_t first, std::int64_t last) {
    signal(SIGXFSZ, SIG_IGN);
    TrainCallbacks callbacks;
    callbacks.on_message = [&](const std::string& text) { messages += text + "\n"; };
    callbacks.on_report = [first, last](const StepReport& report) {
      const bool full = first <= report.step && report.step <= last;
      const rlimit limit{full ? 20'000 : RLIM_INFINITY, RLIM_INFINITY};
      setrlimit(RLIMIT_FSIZE, &limit);
    };
    return callbacks;
  };
  const auto only_whole = [](const std::string& folder) {
    for (const auto& entry : fs::directory_iterator(folder + "/checkpoints"))
      if (!entry.path().filename().string().starts_with("step_")) return false;
    return true;
  };
  // As codes, because what is checked in the child is lost.
  const int going_on = test::run_in_child([&] {
    std::string messages;
    const std::string checkpoint = run(options, dir / "run", false, full_disk(messages, 4, 4)).checkpoint;
    const RunFolder files(dir / "run");
    if (!contains(messages, "warning: step 4 could not be saved: [write] cannot write " + files.root()))
      return 1;
    if (!contains(messages, ".safetensors: ")) return 2;
    if (!contains(messages, files.checkpoint_path(2) + " is still there")) return 3;
    if (!contains(messages, "tries again at step 6")) return 4;
    if (state_bytes(checkpoint) != expected) return 5;
    return files.latest()->step == 8 && files.checkpoints().size() == 2 && only_whole(files.root()) ? 0 : 6;
  });
  CHECK(going_on == 0);
  const int first_one = test::run_in_child([&] {
    std::string messages;
    run(options, dir / "first", false, full_disk(messages, 2, 2));
    return contains(messages, "there is no checkpoint yet") ? 0 : 1;
  });
  CHECK(first_one == 0);
  const int last_one = test::run_in_child([&] {
    std::string messages;
    try {
      run(options, dir / "last", false, full_disk(messages, 5, 8));
    } catch (const IoError&) {
      const RunFolder files(dir / "last");
      return contains(messages, "step 6 could not be saved") && files.latest()->step == 4 &&
                     only_whole(files.root())
                 ? 0
                 : 1;
    }
    return 2;
  });
  CHECK(last_one == 0);
  const int way_out = test::run_in_child([&] {
    std::string messages;
    TrainCallbacks callbacks = full_disk(messages, 4, 8);
    const auto report = std::exchange(callbacks.on_report, {});
    bool stop = false;
    callbacks.on_report = [&](const StepReport& r) {
      report(r);
      stop = r.step == 4;
    };
    callbacks.should_stop = [&] { return stop; };
    try {
      run(options, dir / "stopped", false, callbacks);
    } catch (const IoError&) {
      return contains(messages, "step 4 could not be saved") ? 0 : 1;
    }
    return 2;
  });
  CHECK(way_out == 0);
  CHECK(state_bytes(run(options, dir / "stopped", true).checkpoint) == expected);
}

TEST_CASE("the best checkpoint on a full disk is told, and is not called the best") {
  const test::TempDir dir;
  TrainOptions options = unsaved_options();
  options.threads = 1;
  options.held_out = "40%";
  options.eval_every = 2;
  const int code = test::run_in_child([&] {
    signal(SIGXFSZ, SIG_IGN);
    std::string messages;
    TrainCallbacks callbacks;
    callbacks.on_message = [&](const std::string& text) { messages += text + "\n"; };
    callbacks.on_evaluation = [&](const EvaluationReport& report) {
      const rlimit limit{report.step == 2 ? 20'000 : RLIM_INFINITY, RLIM_INFINITY};  // for the next one
      setrlimit(RLIMIT_FSIZE, &limit);
      if (report.step == 4 && report.best) messages += "step 4 is the best";
    };
    run(options, dir / "run", false, callbacks);
    if (contains(messages, "step 4 is the best")) return 1;
    return contains(messages, "warning: step 4 could not be saved") ? 0 : 2;
  });
  CHECK(code == 0);
  const auto best = RunFolder(dir / "run").best();
  REQUIRE(best);
  CHECK(best->step != 4);
  CHECK(contains(test::read_file(dir / "run/log.jsonl"), "{\"step\": 4, \"held_out_loss\""));
}

TEST_SUITE_END();

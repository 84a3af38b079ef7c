// How runs end: whatever ends a run, the steps that were done are saved. Failures that do not touch the weights do not end
// it.
#include <doctest/doctest.h>

#include <filesystem>
#include <stdexcept>
#include <string>

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

TEST_SUITE_END();

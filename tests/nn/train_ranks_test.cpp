// Runs of several processes, here as threads: the same bits for any number of them, and what they settle among themselves.
#include "nn/train_ranks.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "core/machine.h"
#include "nn/train_folder.h"
#include "tests/nn/train_runs.h"
#include "tests/support/text.h"
#include "tests/support/thread_ranks.h"

namespace {

using namespace llsa;
using namespace llsa::nn;
using llsa::test::contains;

TrainOptions twelve_micro_batches() {
  TrainOptions options = tiny_options();
  options.accumulate = 12;
  options.batch = 1;
  options.steps = 4;
  options.log_every = 1;
  options.threads = 1;
  return options;
}

// The result of the first of several processes.
TrainResult run_with(int ranks, const TrainOptions& options, const std::string& out, bool resume = false,
                     const TrainCallbacks& callbacks = {}) {
  TrainResult result;
  test::run_ranks(ranks, [&](Communicator& rank) {
    const TrainResult own = train(options, out, resume, callbacks, rank);
    if (rank.leads()) result = own;
  });
  return result;
}

// What a log says of losses, without speeds, memory and machines.
std::vector<std::string> losses_in(const std::string& out) {
  std::vector<std::string> lines;
  const std::string text = test::read_file(out + "/log.jsonl");
  for (std::size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string line = text.substr(begin, end - begin);
    if (!contains(line, "\"machine\"")) lines.push_back(line.substr(0, line.find("\"learning_rate\"")));
  }
  return lines;
}

std::string failure_with(int ranks, const std::function<void(Communicator&)>& body) {
  try {
    test::run_ranks(ranks, body);
  } catch (const Error& error) {
    return error.what() + ("; " + error.hint());
  }
  return "";
}

}  // namespace

TEST_SUITE_BEGIN("nn/train_ranks");

TEST_CASE("weights, moments, averages and losses have the same bits for 1 to 5 processes") {
  const test::TempDir dir;
  for (const std::string kind :
       {"f32", "bf16", "pixelflow"}) {  // a PixelFlow uses its weights in four stages
    CAPTURE(kind);
    TrainOptions options = twelve_micro_batches();
    options.ema_also = "0.9";
    if (kind == "bf16") options.dtype = kind;
    if (kind == "pixelflow") {
      options = twelve_micro_batches();
      options.kind = kind;
      options.model = DitConfig();
      options.model.height = options.model.width = 8;
      options.model.heads = 2;
      options.model.head_dim = 8;
      options.model.layers = 1;
      options.model.llsa.block = 4;
      options.model.llsa.topk = {2};
      options.batch = 4;
      options.steps = 2;
    }
    const std::string whole = dir / kind;
    const std::string expected = state_bytes(run(options, whole).checkpoint);
    for (int ranks = 2; ranks <= 5; ++ranks) {
      CAPTURE(ranks);
      const std::string out = dir / cat(kind, ranks);
      CHECK(state_bytes(run_with(ranks, options, out).checkpoint) == expected);
      CHECK(losses_in(out) == losses_in(whole));
    }
  }
}

TEST_CASE("a run goes on with any number of processes") {
  const test::TempDir dir;
  TrainOptions options = twelve_micro_batches();
  options.steps = 6;
  const std::string expected = state_bytes(run(options, dir / "whole").checkpoint);
  options.steps = 2;
  run_with(3, options, dir / "parts");
  options.steps = 4;
  options.accumulate = 0;  // as the run was begun
  run_with(1, options, dir / "parts", true);
  options.steps = 6;
  CHECK(state_bytes(run_with(4, options, dir / "parts", true).checkpoint) == expected);
}

TEST_CASE("a step has one micro-batch for each process, unless a number is given") {
  const test::TempDir dir;
  TrainOptions options = twelve_micro_batches();
  options.steps = 1;
  options.accumulate = 0;
  run_with(3, options, dir / "three");
  CHECK(read_training_options(dir / "three/checkpoints/step_000000001").accumulate == 3);
  CHECK(contains(failure_with(4, [&](Communicator& rank) { train(options, dir / "three", true, {}, rank); }),
                 "a step has 3 micro-batches, expected at least one for each of 4 processes"));
}

TEST_CASE("if one process is asked to stop, all of them save and stop") {
  const test::TempDir dir;
  const TrainOptions options = twelve_micro_batches();
  std::vector<TrainResult> results(3);
  std::vector<int> reports(3);
  test::run_ranks(3, [&](Communicator& rank) {
    TrainCallbacks callbacks = rank.rank() == 2 ? stopping_after(7) : TrainCallbacks();
    const auto self = static_cast<std::size_t>(rank.rank());
    callbacks.on_report = [&](const StepReport& report) {
      ++reports[self];
      CHECK(report.rank_wait.value_or(-1) >= 0);
    };
    results[self] = train(options, dir / "run", false, callbacks, rank);
  });
  for (const TrainResult& result : results) {
    CHECK(result.stopped);
    CHECK(result.step == 1);  // it is asked before each of the four rounds of a step
  }
  CHECK(reports == std::vector<int>{1, 0, 0});
  CHECK(contains(test::read_file(dir / "run/log.jsonl"), "\"rank_wait\": "));
  CHECK(state_bytes(run_with(2, options, dir / "run", true).checkpoint) ==
        state_bytes(run(options, dir / "whole").checkpoint));
  CHECK_FALSE(contains(test::read_file(dir / "whole/log.jsonl"), "rank_wait"));
}

TEST_CASE("evaluations, sample grids and the best checkpoint do not depend on the number of processes") {
  const test::TempDir dir;
  TrainOptions options = twelve_micro_batches();
  options.held_out = "30%";
  options.eval_every = 2;
  options.eval_samples = 4;
  options.sample_every = 4;
  run(options, dir / "one");
  const TrainResult result = run_with(2, options, dir / "two");
  CHECK(losses_in(dir / "two") == losses_in(dir / "one"));
  for (const std::string file : {"/best.json", "/samples/step_000000004.png", "/config.json"}) {
    CAPTURE(file);
    CHECK(test::read_file(dir.path() + "/one" + file).size() > 0);
    CHECK(test::read_file(dir.path() + "/one" + file) == test::read_file(dir.path() + "/two" + file));
  }
  CHECK_FALSE(result.best_checkpoint.empty());
}

TEST_CASE("processes with another configuration or other images are told apart before the first step") {
  const test::TempDir dir;
  const auto failure = [&](const std::function<void(TrainOptions&)>& change) {
    return failure_with(3, [&](Communicator& rank) {
      TrainOptions options = twelve_micro_batches();
      if (rank.rank() == 1) change(options);
      train(options, dir / "run", false, {}, rank);
    });
  };
  const std::string rate = failure([](TrainOptions& o) { o.lr = 3e-3; });
  CHECK(contains(rate, "rank 1 on "));
  CHECK(contains(rate, "has another configuration than rank 0 on "));
  CHECK(contains(rate, "\"lr\": 0.003, instead of \"lr\": 0.002,"));
  CHECK(contains(rate, "start all processes from one program"));
  const std::string images = failure_with(2, [](Communicator& rank) {
    require_alike(rank, {{"set of images", rank.leads() ? "1" : "2"}});
  });
  CHECK(contains(images, "rank 1 on " + host_name() + " has another set of images than rank 0"));
  CHECK(failure_with(2, [&](Communicator& rank) { require_alike(rank, {{"images", "1"}}); }).empty());
}

TEST_CASE("a run that diverges says so in all processes") {
  const test::TempDir dir;
  TrainOptions options = twelve_micro_batches();
  options.lr = 1e3;
  options.clip = 0;
  options.warmup = 0;
  options.steps = 60;
  const auto failure = [&](int ranks) {
    return failure_with(ranks,
                        [&](Communicator& rank) { train(options, dir / cat(ranks), false, {}, rank); });
  };
  const std::string alone = failure(1);
  REQUIRE(contains(alone, "training diverged at step "));
  CHECK(contains(failure(3), alone.substr(0, alone.find(':'))));
  CHECK(losses_in(dir / "1") == losses_in(dir / "3"));
}

TEST_CASE("processes on the same processors divide them, unless threads are given") {
  TrainOptions options;
  std::vector<int> threads(2), given(2);
  test::run_ranks(2, [&](Communicator& rank) {
    const auto self = static_cast<std::size_t>(rank.rank());
    threads[self] = threads_of_rank(options, rank);
    TrainOptions other = options;
    other.threads = 7;
    given[self] = threads_of_rank(other, rank);
    const LocalRank local = local_rank(rank);
    CHECK(local.rank == rank.rank());
    CHECK(local.size == 2);
  });
  const int expected = std::getenv("LLSA_THREADS") ? 0 : std::max(1, available_processors() / 2);
  CHECK(threads == std::vector<int>{expected, expected});
  CHECK(given == std::vector<int>{7, 7});
  CHECK(threads_of_rank(options, one_process()) == 0);
}

TEST_SUITE_END();

// Evaluation during whole runs on a few tiny images: the same weights with and without it, what is logged, which
// checkpoint is kept.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/text_file.h"
#include "nn/data/held_out.h"
#include "nn/json.h"
#include "tests/nn/train_runs.h"
#include "tests/support/text.h"

namespace {

using namespace llsa;
using namespace llsa::nn;
using llsa::test::contains;
namespace fs = std::filesystem;

TrainOptions evaluated_options() {
  TrainOptions options = tiny_options();
  options.held_out = "40%";
  options.eval_every = 4;
  return options;
}

// {step, held-out loss} of the log's lines that have one.
std::vector<std::pair<std::int64_t, double>> logged(const std::string& out) {
  std::vector<std::pair<std::int64_t, double>> losses;
  std::istringstream log(read_text_file(RunFolder(out).log_path()));
  for (std::string line; std::getline(log, line);) {
    JsonObject json(line, "log.jsonl");
    const std::int64_t step = json.integer("step", -1, 0, 1000);
    if (json.has("held_out_loss")) losses.emplace_back(step, json.number("held_out_loss", -1, 0, 1000));
  }
  return losses;
}

}  // namespace

TEST_SUITE_BEGIN("nn/train_evaluation");

TEST_CASE("evaluation changes no bit of the weights, and does not depend on threads or on when it is made") {
  const test::TempDir dir;
  TrainOptions options = evaluated_options();
  const TrainResult evaluated = run(options, dir / "evaluated");
  const auto losses = logged(dir / "evaluated");
  REQUIRE(losses.size() == 5);
  CHECK(losses.front().first == 4);
  CHECK(losses.back().first == 20);
  options.threads = 3;
  options.eval_every = 10;
  run(options, dir / "seldom");
  const auto seldom = logged(dir / "seldom");
  REQUIRE(seldom.size() == 2);
  CHECK(seldom.back() == losses.back());
  options.eval_every = 0;
  const TrainResult plain = run(options, dir / "plain");
  CHECK(logged(dir / "plain").empty());
  CHECK(plain.best_checkpoint.empty());
  CHECK(state_bytes(plain.checkpoint) == state_bytes(evaluated.checkpoint));
  options.held_out = "";
  CHECK(state_bytes(run(options, dir / "all").checkpoint) != state_bytes(plain.checkpoint));
}

TEST_CASE(
    "the held-out loss of the same weights does not depend on the levels and the loss that they are trained "
    "with") {
  const test::TempDir dir;
  TrainOptions options = evaluated_options();
  options.model.init = InitKind::published;  // the prediction is not zero
  options.steps = options.eval_every = 1;
  options.lr = 1e-30;
  run(options, dir / "plain");
  options.noise_level = "logit_normal";
  options.noise_level_mean = -0.8;
  options.loss = "x";
  run(options, dir / "other");
  CHECK(logged(dir / "plain").at(0).second > 0.1);
  CHECK(logged(dir / "other") == logged(dir / "plain"));

  // So a run that goes on with other levels and another loss keeps its best checkpoint; with another noise it does not.
  const RunFolder files(dir / "plain");
  BestCheckpoint best = files.best().value();
  best.held_out_loss = 1e-9;
  files.mark_best(best);
  TrainCallbacks callbacks;
  callbacks.allow_changes = [](const std::vector<std::string>&) { return true; };
  options.steps = 2;
  CHECK(run(options, dir / "plain", true, callbacks).best_checkpoint == files.checkpoint_path(1));
  options.noise_scale = 3;
  options.steps = 3;
  CHECK(run(options, dir / "plain", true, callbacks).best_checkpoint == files.checkpoint_path(3));
}

TEST_CASE("a resumed run evaluates as an uninterrupted one, also where it was stopped in an evaluation") {
  const test::TempDir dir;
  const TrainOptions options = evaluated_options();
  const TrainResult whole = run(options, dir / "whole");
  CHECK(logged(dir / "whole").size() == 5);
  // There is a question before each step, and one between the two batches of each evaluation: the seventh comes
  // before step 6, the tenth is that of the evaluation at step 8.
  const auto images = std::make_shared<const ImageFolder>(options.data);
  REQUIRE((hold_out(images, options.held_out, {}, true).held_out->size() + 2) / 3 == 2);
  for (const int calls : {6, 9}) {
    CAPTURE(calls);
    const std::string parts = dir / cat("parts", calls);
    CHECK(run(options, parts, false, stopping_after(calls)).step == (calls == 6 ? 5 : 8));
    CHECK(logged(parts).size() == 1);
    const TrainResult rest = run(options, parts, true);
    CHECK(rest.step == 20);
    CHECK(state_bytes(rest.checkpoint) == state_bytes(whole.checkpoint));
    CHECK(logged(parts) == logged(dir / "whole"));
    CHECK(read_text_file(RunFolder(parts).best_path()) ==
          read_text_file(RunFolder(dir / "whole").best_path()));
  }
}

TEST_CASE("evaluations are reported, and the last loss stands in the reports of steps") {
  const test::TempDir dir;
  std::vector<EvaluationReport> evaluations;
  std::vector<StepReport> reports;
  std::string messages;
  TrainCallbacks callbacks;
  callbacks.on_evaluation = [&](const EvaluationReport& report) { evaluations.push_back(report); };
  callbacks.on_report = [&](const StepReport& report) { reports.push_back(report); };
  callbacks.on_message = [&](const std::string& text) { messages += text + "\n"; };
  TrainOptions options = evaluated_options();
  options.steps = 10;
  options.eval_images = 2;
  const TrainResult result = run(options, dir / "run", false, callbacks);
  REQUIRE(evaluations.size() == 3);  // steps 4, 8 and the end
  CHECK(evaluations[2].step == 10);
  CHECK(evaluations[0].best);
  REQUIRE(reports.size() == 2);  // steps 5 and 10
  CHECK(reports[0].held_out_loss == evaluations[0].held_out_loss);
  CHECK(reports[1].held_out_loss == evaluations[2].held_out_loss);
  CHECK(contains(messages, "held out: "));
  CHECK(contains(messages, "that of 2 of them (--eval-images)"));
  const auto best =
      std::min_element(evaluations.begin(), evaluations.end(),
                       [](const auto& a, const auto& b) { return a.held_out_loss < b.held_out_loss; });
  CHECK(result.best_checkpoint == RunFolder(dir / "run").checkpoint_path(best->step));
}

TEST_CASE(
    "the best checkpoint outlives the last ones, in a resumed run, too, and the latest is still the latest") {
  const test::TempDir dir;
  TrainOptions options = evaluated_options();
  options.schedule = "constant";
  options.warmup = 0;
  options.ema_power = 0;  // the average is the last weights
  options.steps = 4;
  options.eval_every = options.save_every = 2;
  options.keep = 1;
  const RunFolder files(dir / "run");
  run(options, dir / "run");
  // As if nothing later were as good as step 4.
  BestCheckpoint best = files.best().value();
  best.step = 4;
  best.held_out_loss = 1e-9;
  files.mark_best(best);
  options.steps = 10;
  const TrainResult result = run(options, dir / "run", true);
  const auto left = files.checkpoints();
  REQUIRE(left.size() == 2);
  CHECK(left[0].step == 4);
  CHECK(left[1].step == 10);
  CHECK(resolve_checkpoint(dir / "run") == left[1].path);
  CHECK(result.checkpoint == left[1].path);
  CHECK(result.best_checkpoint == left[0].path);
  CHECK(is_diffusers_model(resolve_checkpoint(result.best_checkpoint)));
  // A better one takes its place, and the old one is removed in time.
  best.held_out_loss = 1e9;
  files.mark_best(best);
  options.steps = 12;
  CHECK(run(options, dir / "run", true).best_checkpoint == files.checkpoint_path(12));
  CHECK(files.checkpoints().size() == 1);
}

TEST_CASE("in bf16, with recomputed blocks and without classes, too") {
  const test::TempDir dir;
  TrainOptions options = evaluated_options();
  options.dtype = "bf16";
  options.recompute = true;
  options.model_classes = 0;
  options.steps = 6;
  const std::string expected = state_bytes(run(options, dir / "evaluated").checkpoint);
  CHECK(logged(dir / "evaluated").size() == 2);
  options.eval_every = 0;
  CHECK(state_bytes(run(options, dir / "plain").checkpoint) == expected);
}

TEST_CASE("a run that was killed between the best checkpoint and its mark evaluates again") {
  const test::TempDir dir;
  TrainOptions options = evaluated_options();
  options.steps = 8;
  run(options, dir / "run");
  const RunFolder files(dir / "run");
  const auto losses = logged(dir / "run");
  REQUIRE(losses.size() == 2);
  REQUIRE(files.best());
  const std::string mark = read_text_file(files.best_path()), log = read_text_file(files.log_path());
  REQUIRE(files.best()->step == 8);
  fs::remove(files.best_path());
  test::write_file(files.log_path(), log.substr(0, log.find("{\"step\": 8, \"held_out_loss\"")));
  CHECK(run(options, dir / "run", true).step == 8);
  CHECK(read_text_file(files.best_path()) == mark);
  CHECK(logged(dir / "run") == losses);
}

TEST_CASE("the best step is saved although no checkpoint is due") {
  const test::TempDir dir;
  TrainOptions options = evaluated_options();
  options.steps = 3;
  options.eval_every = 2;
  options.keep = 5;
  run(options, dir / "run");
  CHECK(RunFolder(dir / "run").checkpoints().front().step == 2);
}

TEST_CASE("marks of a best checkpoint: none, missing, damaged") {
  const test::TempDir dir;
  TrainOptions options = evaluated_options();
  options.steps = 4;
  RunFolder files(dir / "run");
  CHECK_FALSE(files.best());
  run(options, dir / "run");
  REQUIRE(files.best());
  CHECK(files.best()->step == 4);
  test::write_file(files.best_path(), "{\"step\": 4, ");
  options.steps = 5;
  CHECK(contains(failure_of<ValueError>(options, dir / "run", true), "best.json"));
  files.mark_best({7, 0.1, "1"});  // as if that checkpoint had been moved away
  CHECK_FALSE(files.best());
  CHECK(run(options, dir / "run", true).best_checkpoint == files.checkpoint_path(5));
}

TEST_CASE("a folder of held-out images; others are refused when a run is resumed") {
  const test::TempDir dir;
  ShapesOptions shapes;
  shapes.out = dir / "others";
  shapes.count = 5;
  shapes.size = 8;
  shapes.seed = 2;
  write_shapes(shapes);
  TrainOptions options = tiny_options();
  options.steps = 4;
  const std::string plain = state_bytes(run(options, dir / "plain").checkpoint);
  options.held_out = shapes.out;
  options.eval_every = 3;
  CHECK(state_bytes(run(options, dir / "run").checkpoint) == plain);
  CHECK(logged(dir / "run").size() == 2);
  fs::remove(fs::directory_iterator(dir / "others/circle")->path());
  options.steps = 5;
  std::string hint;
  CHECK(contains(failure_of<ValueError>(options, dir / "run", true, &hint), "held-out images"));
  CHECK(contains(hint, "--allow-changes"));
  std::string messages;
  TrainCallbacks callbacks;
  callbacks.on_message = [&](const std::string& text) { messages += text + "\n"; };
  callbacks.allow_changes = [](const std::vector<std::string>&) { return true; };
  fs::copy(dir / "run", dir / "changed", fs::copy_options::recursive);
  CHECK(contains(run(options, dir / "changed", true, callbacks).best_checkpoint, "step_000000005"));
  CHECK(contains(messages, "best checkpoint is looked for anew"));
  fs::rename(dir / "others/ring", dir / "others/wheel");
  CHECK(contains(failure_of<ValueError>(options, dir / "new"), "'wheel'"));
}

TEST_CASE(
    "a score of drawn images, with and without a held-out loss; it is logged, reported, and made once") {
  const test::TempDir dir;
  TrainOptions options = tiny_options();
  options.steps = 4;
  const std::string plain = state_bytes(run(options, dir / "plain").checkpoint);
  options.eval_every = 2;
  options.eval_samples = 3;
  std::vector<EvaluationReport> evaluations;
  TrainCallbacks callbacks;
  callbacks.on_evaluation = [&](const EvaluationReport& report) { evaluations.push_back(report); };
  const TrainResult result = run(options, dir / "run", false, callbacks);
  CHECK(state_bytes(result.checkpoint) == plain);
  CHECK(result.best_checkpoint.empty());
  REQUIRE(evaluations.size() == 2);
  CHECK_FALSE(evaluations[1].held_out_loss);
  REQUIRE(evaluations[1].score);
  CHECK(evaluations[1].score->value > 0);
  CHECK(evaluations[1].score->over_real.value() > 0);
  const std::string log = read_text_file(RunFolder(dir / "run").log_path());
  CHECK(contains(log, cat("{\"step\": 4, \"score\": ")));
  CHECK(contains(log, "\"score_over_real\": "));
  run(options, dir / "run", true, callbacks);
  CHECK(evaluations.size() == 2);
  options.held_out = "40%";
  options.eval_samples = 2;
  evaluations.clear();
  CHECK_FALSE(run(options, dir / "both", false, callbacks).best_checkpoint.empty());
  CHECK(evaluations.at(0).held_out_loss);
  CHECK(evaluations.at(0).score);
}

TEST_CASE("a step is in the log before its checkpoint is there, so that a kill leaves no gap") {
  const test::TempDir dir;
  TrainOptions options = evaluated_options();
  options.steps = 4;
  options.log_every = options.eval_every = 1;
  int evaluations = 0;
  TrainCallbacks callbacks;
  callbacks.on_evaluation = [&](const EvaluationReport& report) {
    const std::string log = read_text_file(RunFolder(dir / "run").log_path());
    CHECK(contains(log, cat("{\"step\": ", report.step, ", \"loss\": ")));
    ++evaluations;
  };
  run(options, dir / "run", false, callbacks);
  CHECK(evaluations == 4);
}

TEST_CASE("settings that do not fit each other are refused, and a change of what is compared is told") {
  const auto refused = [](const std::string& json) {
    return test::failure_of<ValueError>([&] { TrainOptions::parse(json, "run.json"); });
  };
  const std::string alone = refused(R"({"eval_every": 5})");
  CHECK(contains(alone, "eval_every is 5"));
  CHECK(contains(alone, "--held-out"));
  CHECK(contains(alone, "--eval-samples"));
  CHECK(refused(R"({"eval_every": 5, "eval_samples": 4})") == "");
  CHECK(contains(refused(R"({"eval_every": 5, "eval_samples": 1})"), "at least 2 images"));
  CHECK(contains(refused(R"({"inception": "weights"})"), "--eval-samples"));
  CHECK(refused(R"({"eval_every": 5, "held_out": "5%"})") == "");
  CHECK(contains(refused(R"({"held_out": "60%"})"), "60%"));
  TrainOptions stored = evaluated_options(), now = stored;
  now.eval_every = 7;
  CHECK(changes_on_resume(stored, now).empty());
  now.eval_images = 5;
  CHECK(changes_on_resume(stored, now).size() == 1);
}

TEST_SUITE_END();

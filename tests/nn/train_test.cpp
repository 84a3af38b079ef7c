// Whole runs on a few tiny images: resuming and interruption, with the same bits.
#include "nn/train.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
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
#include "tests/support/kernels.h"
#include "tests/support/text.h"

namespace {

using namespace llsa;
using namespace llsa::nn;
using llsa::test::contains;
namespace fs = std::filesystem;

}  // namespace

TEST_SUITE_BEGIN("nn/train");

TEST_CASE("a resumed run equals an uninterrupted one bit for bit, with any number of threads") {
  const test::TempDir dir;
  for (const std::int64_t accumulate : {1, 2}) {
    CAPTURE(accumulate);
    TrainOptions options = tiny_options();
    options.accumulate = accumulate;
    const std::string name = cat("whole", accumulate);
    const TrainResult whole = run(options, dir / name);
    CHECK(whole.step == 20);
    CHECK_FALSE(whole.stopped);
    const std::string expected = state_bytes(whole.checkpoint);
    for (const std::int64_t threads : {1, 3}) {
      CAPTURE(threads);
      const std::string parts = dir / cat("parts", accumulate, threads);
      // Asked before every micro-batch, so that with two of them the eighth step is given up halfway.
      const TrainResult first = run(options, parts, false, stopping_after(accumulate == 1 ? 7 : 15));
      CHECK(first.stopped);
      CHECK(first.step == 7);
      TrainOptions changed = options;
      changed.threads = threads;
      changed.workers = 2;
      changed.log_every = 1;
      const TrainResult second = run(changed, parts, true);
      CHECK(second.step == 20);
      CHECK(state_bytes(second.checkpoint) == expected);
    }
  }
}

TEST_CASE("profiled steps have the same bits, and are those after a warm-up") {
  const test::TempDir dir;
  const TrainOptions options = tiny_options();
  const std::string expected = state_bytes(run(options, dir / "plain").checkpoint);
  for (const auto& [steps, runs] :
       {std::pair(4, 4), std::pair(100, 17)}) {  // the run ends after its 20 steps
    CAPTURE(steps);
    int told = 0;
    TrainCallbacks callbacks;
    callbacks.profile = {steps, false, [&, runs = runs](const Profile& profile) {
                           ++told;
                           CHECK(profile.runs == runs);
                           CHECK(profile.seconds > 0);
                           const auto adamw =
                               std::find_if(profile.ops.begin(), profile.ops.end(),
                                            [](const ProfiledOp& op) { return op.name == "adamw_ema_step"; });
                           REQUIRE(adamw != profile.ops.end());
                           CHECK(adamw->work.calls == runs);
                           CHECK(adamw->work.bytes > 0);
                         }};
    const TrainResult result = run(options, dir / cat("profiled", steps), false, callbacks);
    CHECK(told == 1);
    CHECK(state_bytes(result.checkpoint) == expected);
  }
}

TEST_CASE("with VSA and SLA, too") {
  const test::TempDir dir;
  for (const AttentionKind kind : {AttentionKind::vsa, AttentionKind::sla}) {
    CAPTURE(name_of(kind));
    TrainOptions options = tiny_options();
    options.model.attention = kind;
    const std::string whole = dir / cat("whole_", name_of(kind)), parts = dir / cat("parts_", name_of(kind));
    const std::string expected = state_bytes(run(options, whole).checkpoint);
    CHECK(run(options, parts, false, stopping_after(7)).step == 7);
    options.threads = 3;
    const TrainResult second = run(options, parts, true);
    CHECK(state_bytes(second.checkpoint) == expected);
    // The layers that start at zero have learnt.
    Context ctx(1);
    const auto model = load_diffusers_model(ctx, second.checkpoint);
    const std::string layer = kind == AttentionKind::vsa ? "to_gate_compress" : "proj_l";
    const auto& weight = model->parameters().at("transformer_blocks.0.attn1." + layer + ".weight");
    double largest = 0;
    for (const float x : kernels::to_vector<float>(ctx, weight.value()))
      largest = std::max(largest, std::abs(double{x}));
    CHECK(largest > 1e-4);
  }
}

TEST_CASE("with a network that predicts the image, other levels and another loss, too") {
  const test::TempDir dir;
  TrainOptions options = tiny_options();
  const std::string plain = state_bytes(run(options, dir / "plain").checkpoint);
  options.model.pred_x0 = true;
  const std::string image = state_bytes(run(options, dir / "image").checkpoint);
  CHECK(image != plain);
  options.noise_level = "logit_normal";
  options.noise_level_mean = -0.8;
  options.noise_level_deviation = 0.8;
  options.loss = "x";
  const std::string whole = state_bytes(run(options, dir / "whole").checkpoint);
  CHECK(whole != image);
  CHECK(run(options, dir / "parts", false, stopping_after(7)).step == 7);
  options.threads = 3;
  const TrainResult second = run(options, dir / "parts", true);
  CHECK(state_bytes(second.checkpoint) == whole);
  CHECK(read_diffusers_model(second.checkpoint).config.pred_x0);
  Context ctx(1);
  CHECK(load_diffusers_model(ctx, second.checkpoint)->last_stage().pred_x0);
  // The same weights mean something else in a model that predicts the flow.
  options.model.pred_x0 = false;
  CHECK(contains(failure_of<ValueError>(options, dir / "parts", true), "pred_x0: stored true, now false"));
  options.init_from = dir / "whole";
  std::string messages;
  TrainCallbacks callbacks;
  callbacks.on_message = [&](const std::string& text) { messages += text + "\n"; };
  options.steps = 1;
  run(options, dir / "other", false, callbacks);
  CHECK(contains(messages, "predicts the image, this model the flow"));
}

TEST_CASE("several averages: each is what it would be alone, in the checkpoint and after a resume") {
  const test::TempDir dir;
  TrainOptions options = tiny_options();
  options.steps = 8;
  options.ema_max = 0.5;
  const std::string alone = test::read_file(diffusers_weights_path(run(options, dir / "alone").checkpoint));
  options.ema_max = 0.9999;
  const std::string plain = state_bytes(run(options, dir / "plain").checkpoint);
  options.ema_also = "0.5,0.75";
  const auto all_bytes = [](const std::string& checkpoint) {
    return state_bytes(checkpoint) + test::read_file(diffusers_weights_path(checkpoint, "0.5")) +
           test::read_file(diffusers_weights_path(checkpoint, "0.75"));
  };
  const std::string whole = run(options, dir / "whole").checkpoint;
  CHECK(state_bytes(whole) == plain);
  CHECK(test::read_file(diffusers_weights_path(whole, "0.5")) == alone);
  CHECK(diffusers_averages(whole) == std::vector<std::string>{"0.5", "0.75"});
  CHECK(run(options, dir / "parts", false, stopping_after(3)).step == 3);
  options.threads = 3;
  CHECK(all_bytes(run(options, dir / "parts", true).checkpoint) == all_bytes(whole));

  Context ctx(1);
  const auto of = [&](const std::string& average) {
    return kernels::to_vector<float>(
        ctx, load_diffusers_model(ctx, whole, DType::f32, average)->parameters().flat());
  };
  CHECK(of("") != of("0.5"));
  CHECK(of("0.5") != of("0.75"));
  try {
    of("0.9");
    FAIL("an average that there is not was loaded");
  } catch (const IoError& error) {
    CHECK(contains(error.what(), "no average 0.9"));
    CHECK(contains(error.hint(), "0.5, 0.75"));
  }
  options.ema_also = "0.5";
  CHECK(contains(failure_of<ValueError>(options, dir / "parts", true), "ema_also"));
}

TEST_CASE("in bf16, too: equal bits for 1, 2 and 3 threads, and for a run that was resumed") {
  const test::TempDir dir;
  TrainOptions options = tiny_options();
  options.model.height = options.model.width = 16;  // large enough for several threads to have work
  options.model.head_dim = 16;
  options.model.layers = 1;
  const std::string in_f32 = state_bytes(run(options, dir / "f32").checkpoint);
  options.dtype = "bf16";
  std::string expected;
  for (const std::int64_t threads : {1, 2, 3}) {
    CAPTURE(threads);
    options.threads = threads;
    const std::string whole = state_bytes(run(options, dir / cat("whole", threads)).checkpoint);
    if (threads == 1) expected = whole;
    CHECK(whole == expected);
    CHECK(whole != in_f32);
  }
  CHECK(run(options, dir / "parts", false, stopping_after(7)).step == 7);
  options.threads = 2;
  CHECK(state_bytes(run(options, dir / "parts", true).checkpoint) == expected);
}

TEST_CASE("micro-batches that are accumulated equal one large batch") {
  const test::TempDir dir;
  TrainOptions options = tiny_options();
  options.model.init = InitKind::published;  // every parameter has a gradient
  options.steps = options.log_every = 1;
  options.clip = 0;
  struct Outcome {
    double loss = 0, norm = 0;
    std::vector<double> moments;  // after one step (1 - beta1) times the gradient
  };
  const auto step_of = [&](std::int64_t accumulate, std::int64_t batch) {
    options.accumulate = accumulate;
    options.batch = batch;
    Outcome outcome;
    TrainCallbacks callbacks;
    callbacks.on_report = [&](const StepReport& report) {
      outcome.loss = report.loss;
      outcome.norm = report.gradient_norm;
    };
    const TrainResult result = run(options, dir / cat(accumulate, "x", batch), false, callbacks);
    Context ctx(1);
    const SafetensorsFile state(result.checkpoint + "/training_state/state.safetensors");
    for (const auto& [name, tensor] : state.tensors()) {
      if (name.rfind("adam_m.", 0) != 0) continue;
      const auto values = kernels::to_vector<double>(ctx, tensor);
      outcome.moments.insert(outcome.moments.end(), values.begin(), values.end());
    }
    return outcome;
  };
  const Outcome large = step_of(1, 6);
  CHECK(large.norm > 0);
  for (const auto& [accumulate, batch] : {std::pair<std::int64_t, std::int64_t>{2, 3}, {3, 2}, {6, 1}}) {
    const Outcome small = step_of(accumulate, batch);
    CHECK(std::abs(small.loss - large.loss) <= 1e-6 * large.loss);
    CHECK(std::abs(small.norm - large.norm) <= 1e-5 * large.norm);
    CHECK(test::deviation(small.moments, large.moments) <= 1e-5);
  }
}

TEST_CASE("a training state without a format version is resumed; a newer one is refused before any work") {
  const test::TempDir dir;
  TrainOptions options = tiny_options();
  options.schedule = "constant";
  options.steps = 6;
  const std::string expected = state_bytes(run(options, dir / "whole").checkpoint);
  options.steps = 4;
  const std::string path = run(options, dir / "run").checkpoint + "/training_state/state.json";
  options.steps = 6;
  const std::string text = read_text_file(path), field = "\"format_version\": 2,";
  REQUIRE(contains(text, field));
  fs::remove(RunFolder(dir / "run").latest()->path + "/checksums.xxh64");  // that version wrote none, either
  const auto write_with = [&](const std::string& version) {
    std::string changed = text;
    test::write_file(path, changed.replace(text.find(field), field.size(), version));
  };
  write_with("\"format_version\": 9,");
  std::string hint;
  CHECK(contains(failure_of<ValueError>(options, dir / "run", true, &hint), "format version 9"));
  CHECK(contains(hint, "the version of llsa that wrote it"));
  write_with("");
  CHECK(state_bytes(run(options, dir / "run", true).checkpoint) == expected);
}

TEST_CASE("should_stop is also asked while a grid is drawn, and the checkpoint is saved all the same") {
  const test::TempDir dir;
  TrainOptions options = tiny_options();
  options.steps = 6;
  options.sample_every = 2;
  options.sample_steps = 5;
  const TrainResult stopped =
      run(options, dir / "run", false, stopping_after(4));  // two steps, then two of a grid
  CHECK(stopped.stopped);
  CHECK(stopped.step == 2);
  CHECK(RunFolder(dir / "run").latest()->step == 2);
  CHECK_FALSE(fs::exists(RunFolder(dir / "run").sample_path(2)));
}

TEST_CASE("steps can be added to a finished run") {
  const test::TempDir dir;
  TrainOptions options = tiny_options();
  options.schedule = "constant";
  options.steps = 4;
  run(options, dir / "run");
  options.steps = 6;
  const TrainResult more = run(options, dir / "run", true);
  CHECK(more.step == 6);
  CHECK(state_bytes(more.checkpoint) == state_bytes(run(options, dir / "other").checkpoint));
}

TEST_SUITE_END();

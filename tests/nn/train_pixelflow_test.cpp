// Whole runs of a tiny PixelFlow: resuming with the same bits, its recipe, its checkpoints, what it refuses.
#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "core/safetensors.h"
#include "kernels/copy.h"
#include "kernels/random.h"
#include "nn/diffusers_config.h"
#include "nn/diffusion/cascade_sampler.h"
#include "nn/ema.h"
#include "nn/eval/held_out_loss.h"
#include "nn/pixelflow.h"
#include "tests/nn/train_runs.h"
#include "tests/support/kernels.h"
#include "tests/support/text.h"

namespace {

using namespace llsa;
using namespace llsa::nn;
using llsa::test::contains;
namespace fs = std::filesystem;

// 64 tokens in the last stage.
TrainOptions tiny_pixelflow() {
  TrainOptions options = tiny_options();
  options.kind = "pixelflow";
  options.model.pos_embed = false;
  options.batch = 4;
  options.steps = 8;
  return options;
}

std::string message_of(const TrainOptions& options, std::string* hint = nullptr) {
  try {
    options.validate();
  } catch (const ValueError& error) {
    if (hint) *hint = error.hint();
    return error.what();
  }
  return "";
}

}  // namespace

TEST_SUITE_BEGIN("nn/train_pixelflow");

TEST_CASE(
    "a resumed run of a PixelFlow equals an uninterrupted one bit for bit, with any number of threads") {
  const test::TempDir dir;
  for (const AttentionKind kind : {AttentionKind::llsa, AttentionKind::full, AttentionKind::vsa}) {
    CAPTURE(name_of(kind));
    TrainOptions options = tiny_pixelflow();
    options.model.attention = kind;
    options.accumulate = 2;
    if (kind == AttentionKind::vsa) options.dtype = "bf16";
    const std::string name = dir / name_of(kind);
    const std::string expected = state_bytes(run(options, name).checkpoint);
    for (const std::int64_t threads : {1, 3}) {
      CAPTURE(threads);
      const std::string parts = name + cat("_parts", threads);
      CHECK(run(options, parts, false, stopping_after(7)).step == 3);
      TrainOptions changed = options;
      changed.threads = threads;
      CHECK(state_bytes(run(changed, parts, true).checkpoint) == expected);
    }
  }
}

TEST_CASE("the average begins with the first weights and moves at a constant decay") {
  const test::TempDir dir;
  TrainOptions options = tiny_pixelflow();
  options.steps = 1;
  options.warmup = 0;
  options.ema_max = 0.75;
  const TrainResult result = run(options, dir / "run");
  Context ctx(1);
  const auto average = load_diffusers_model(ctx, result.checkpoint);
  const auto first = make_model(ctx, average->kind(), average->last_stage(), 0);
  const SafetensorsFile state(result.checkpoint + "/training_state/state.safetensors");
  double moved = 0;
  for (const auto& parameter : first->parameters().all()) {
    const auto values = [&](const Tensor& tensor) { return kernels::to_vector<double>(ctx, tensor); };
    const auto w0 = values(first->parameters().at(parameter.name).value());
    const auto w1 = values(state.tensors().at("weights." + parameter.name));
    const auto ema = values(average->parameters().at(parameter.name).value());
    for (std::size_t i = 0; i < w0.size(); ++i) {
      CHECK(ema[i] == doctest::Approx(0.75 * w0[i] + 0.25 * w1[i]).epsilon(1e-5));
      moved = std::max(moved, std::abs(w1[i] - w0[i]));
    }
  }
  CHECK(moved > 1e-3);
}

TEST_CASE("a run is drawn from through its stages, in batches or not, and at its own size only") {
  const test::TempDir dir;
  TrainOptions options = tiny_pixelflow();
  options.sample_every = 4;
  options.ema_max = 0.5;
  const TrainResult result = run(options, dir / "run");
  CHECK(fs::exists(RunFolder(dir / "run").sample_path(4)));
  CHECK(fs::exists(RunFolder(dir / "run").sample_path(8)));

  Context ctx(2);
  const auto model = load_diffusers_model(ctx, dir / "run");
  CHECK(model->kind() == ModelKind::pixelflow);
  CHECK(model->tokens_per_stage() == std::vector<std::int64_t>{1, 4, 16, 64});
  const SampleOptions sampling{.count = 3, .classes = {2}, .guidance = 2.0, .steps = 3, .seed = 5};
  const Tensor drawn = model->draw(sampling);
  const CascadeSampleOptions same{.count = 3, .classes = {2}, .guidance = 2.0, .steps = 3, .seed = 5};
  CHECK(test::same_bits(ctx, drawn, sample_cascade(ctx, *model, same)));
  SampleOptions last = sampling;
  last.first = 2;
  last.count = 1;
  CHECK(test::deviation(kernels::to_vector<double>(ctx, model->draw(last)),
                        kernels::to_vector<double>(ctx, drawn.slice(0, 2, 3))) <= 1e-5);
  SampleOptions wide = sampling;
  wide.height = 8;
  wide.width = 16;
  CHECK_THROWS_WITH_AS(model->draw(wide), doctest::Contains("8 x 8, got 8 x 16"), ValueError);
  SampleOptions heun = sampling;
  heun.sampler = Sampler::heun;
  CHECK_THROWS_WITH_AS(model->draw(heun), doctest::Contains("steps of Euler"), ValueError);
  SampleOptions guided = sampling;
  guided.guided = {0.1, 1.0};
  CHECK_THROWS_WITH_AS(model->draw(guided), doctest::Contains("guidance interval 0,1"), ValueError);
  CHECK_THROWS_WITH_AS(sample(ctx, *model, sampling), doctest::Contains("learns in stages"), ValueError);
}

TEST_CASE("the held-out loss is the cascade loss over all stages, and leaves the weights as they are") {
  const test::TempDir dir;
  TrainOptions options = tiny_pixelflow();
  const std::string expected = [&] {
    TrainOptions plain = options;
    plain.held_out = "40%";
    return state_bytes(run(plain, dir / "plain").checkpoint);
  }();
  options.held_out = "40%";
  options.eval_every = 4;
  std::vector<EvaluationReport> reports;
  TrainCallbacks callbacks;
  callbacks.on_evaluation = [&](const EvaluationReport& report) { reports.push_back(report); };
  const TrainResult result = run(options, dir / "evaluated", false, callbacks);
  CHECK(state_bytes(result.checkpoint) == expected);
  REQUIRE(reports.size() == 2);
  CHECK(fs::exists(RunFolder(dir / "evaluated").best_path()));

  // A stored model: the same number again, whatever the batch, and equal to that of each image and stage alone.
  Context ctx(1);
  const auto model = load_diffusers_model(ctx, result.checkpoint);
  const auto images = std::make_shared<const ImageFolder>(options.data);
  const auto loss_of = [&](std::int64_t batch) {
    return HeldOutLoss(images, {.batch = batch})(ctx, *model).value();
  };
  CHECK(loss_of(5) == doctest::Approx(loss_of(1)).epsilon(1e-6));

  const Tensor x = kernels::random_normal(ctx, Shape{3, 3, 8, 8}, DType::f32, 1, 1);
  const Tensor y = kernels::from_vector(ctx, std::vector<std::int32_t>{0, 1, 2}, Shape{3});
  const Tensor ids = kernels::from_vector(ctx, std::vector<std::int64_t>{7, 8, 9}, Shape{3});
  const CascadeOptions keep{.class_drop = 0, .seed = 4};
  const double all = cascade_loss(ctx, *model, make_full_cascade_batch(ctx, x, y, ids, keep)).item();
  double sum = 0;
  for (std::int64_t i = 0; i < 3; ++i)
    for (const FlowBatch& stage : make_full_cascade_batch(ctx, x.slice(0, i, i + 1), y.slice(0, i, i + 1),
                                                          ids.slice(0, i, i + 1), keep))
      sum += flow_loss(ctx, *model, stage).item();
  CHECK(all == doctest::Approx(sum / 12).epsilon(1e-5));
}

TEST_CASE("images without classes, and the weights of another size") {
  const test::TempDir dir;
  TrainOptions options = tiny_pixelflow();
  options.model_classes = 0;
  options.steps = 2;
  options.sample_every = 2;
  const TrainResult small = run(options, dir / "small");
  CHECK(read_diffusers_model(small.checkpoint).config.classes == 0);
  options.model.height = options.model.width = 16;
  options.init_from = dir / "small";
  CHECK(run(options, dir / "large").step == 2);
}

TEST_CASE("the weights of another kind of model are refused, and --resume with another kind, too") {
  const test::TempDir dir;
  TrainOptions options = tiny_options();
  options.model.pos_embed = false;
  options.batch = 4;
  options.steps = 2;
  run(options, dir / "dit");
  options.kind = "pixelflow";
  options.init_from = dir / "dit";
  CHECK(contains(failure_of<ValueError>(options, dir / "run"),
                 "holds weights of the model dit, expected pixelflow"));
  options.init_from.clear();
  CHECK(contains(failure_of<ValueError>(options, dir / "dit", true),
                 R"(model: stored "dit", now "pixelflow")"));
}

TEST_CASE("what a PixelFlow has no choice in, and a batch that four stages do not share evenly, are named") {
  CHECK(message_of(tiny_pixelflow()) == "");
  const std::pair<const char*, void (*)(TrainOptions&)> cases[] = {
      {"ema_power", [](TrainOptions& o) { o.ema_power = 0.5; }},
      {"noise_level has no meaning for the model pixelflow: expected its default, uniform, got logit_normal",
       [](TrainOptions& o) { o.noise_level = "logit_normal"; }},
      {"noise_scale", [](TrainOptions& o) { o.noise_scale = 2; }},
      {"loss has no meaning", [](TrainOptions& o) { o.loss = "x"; }},
      {"sampler has no meaning", [](TrainOptions& o) { o.sampler = "heun"; }},
      {"guidance_interval has no meaning", [](TrainOptions& o) { o.guidance_interval = "0.1,1"; }},
      {"pred_x0: expected false, which a PixelFlow always has, got true",
       [](TrainOptions& o) { o.model.pred_x0 = true; }},
      {"llsa_pos_embed: expected false, which a PixelFlow always has, got true",
       [](TrainOptions& o) { o.model.pos_embed = true; }},
      {"llsa_init", [](TrainOptions& o) { o.model.init = InitKind::published; }},
      {"llsa_class_std", [](TrainOptions& o) { o.model.class_std = 0.5; }},
      {"token_permutation", [](TrainOptions& o) { o.model.reorder = false; }},
      {"qk_norm", [](TrainOptions& o) { o.model.qk_norm = false; }},
      {"attention_bias", [](TrainOptions& o) { o.model.attention_bias = false; }},
      {"rope_size",
       [](TrainOptions& o) {
         o.model.rope_size = {4, 4};
       }},
      {"sample_size", [](TrainOptions& o) { o.model.width = 16; }},
      {"size 12 is not divisible by 8", [](TrainOptions& o) { o.model.height = o.model.width = 12; }},
      {"expected a multiple of 4, got 10", [](TrainOptions& o) { o.batch = 10; }},
  };
  for (const auto& [says, change] : cases) {
    CAPTURE(says);
    TrainOptions options = tiny_pixelflow();
    change(options);
    const std::string message = message_of(options);
    CAPTURE(message);
    CHECK(contains(message, says));
  }
  TrainOptions options = tiny_pixelflow();
  std::string hint;
  options.batch = 10;
  message_of(options, &hint);
  CHECK(hint == "the nearest are 8 and 12");
  options.batch = 3;
  message_of(options, &hint);
  CHECK(hint == "the smallest is 4");
}

TEST_CASE("the configuration in a checkpoint reads back, and what does not fit it is refused") {
  for (const AttentionKind kind :
       {AttentionKind::full, AttentionKind::llsa, AttentionKind::vsa, AttentionKind::sla}) {
    CAPTURE(name_of(kind));
    DitConfig config = tiny_pixelflow().model;
    config.attention = kind;
    config.classes = 3;
    const std::string text = diffusers_config_json(config, ModelKind::pixelflow);
    CHECK(contains(text, "\"PixelFlowTransformer\""));
    const DiffusersConfig back = parse_diffusers_config(text, "config.json");
    CHECK(back.kind == ModelKind::pixelflow);
    CHECK(diffusers_config_json(back.config, back.kind) == text);
    CHECK(back.notes.empty());
  }
  const auto refusal = [](const std::string& text) {
    try {
      parse_diffusers_config(text, "config.json");
    } catch (const ValueError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(contains(refusal(R"({"_class_name": "PixelFlowTransformer", "sample_size": 32})"), "qk_norm"));
  CHECK(contains(refusal(R"({"_class_name": "PixelFlow"})"), "_class_name"));
  check_cascade_scheduler_config(cascade_scheduler_config_json(), "scheduler.json");
  CHECK_THROWS_WITH_AS(check_cascade_scheduler_config(R"({"num_stages": 3})", "scheduler.json"),
                       doctest::Contains("num_stages"), ValueError);
  CHECK(contains(model_index_json(ModelKind::pixelflow), "\"PixelFlowPipeline\""));
}

TEST_SUITE_END();

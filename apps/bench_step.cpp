// The demo's training step: noise, forward, backward, clipping, AdamW, average.
#include <cmath>

#include "apps/bench.h"
#include "apps/demo_recipe.h"
#include "apps/progress.h"
#include "autograd/var.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/llsa.h"
#include "kernels/random.h"
#include "nn/data/loader.h"
#include "nn/diffusion/flow.h"
#include "nn/dit.h"
#include "nn/ema.h"
#include "nn/optim.h"

namespace llsa::apps {
namespace {

// Operations per step that any implementation has to do: products of the token-wise linear layers (once
// forward, twice backward) and of the attended pairs (2 forward, 5 backward). Recomputation, norms and the
// conditioning are not counted.
double step_flops(const nn::DitConfig& config, std::int64_t batch) {
  const auto width = static_cast<double>(config.channels());
  const double pixels =
      static_cast<double>(config.patch) * config.patch * (config.in_channels + config.out_channels);
  const double linear = config.layers * 2 * 12 * width * width + 2 * width * pixels;
  const std::int64_t rows = batch * config.heads;
  const kernels::AttentionFlops attention =
      config.attention == nn::AttentionKind::llsa
          ? kernels::llsa_flops(kernels::llsa_plan(config.tokens(), config.llsa), rows, config.head_dim)
          : kernels::full_attention_flops(rows, config.tokens(), config.tokens(), config.head_dim);
  return 3 * linear * static_cast<double>(batch * config.tokens()) +
         config.layers * (attention.forward + attention.backward);
}

nn::Batch synthetic_batch(Context& ctx, const nn::TrainOptions& recipe) {
  nn::Batch batch;
  const Shape images{recipe.batch, recipe.model.in_channels, recipe.model.height, recipe.model.width};
  batch.x = kernels::affine(ctx, kernels::random_uniform(ctx, images, DType::f32, 3, 0), 2.0, -1.0);
  std::vector<std::int32_t> classes;
  std::vector<std::int64_t> ids;
  for (std::int64_t i = 0; i < recipe.batch; ++i) {
    classes.push_back(static_cast<std::int32_t>(i % recipe.model.classes));
    ids.push_back(i);
  }
  batch.y = kernels::from_vector(ctx, classes, {recipe.batch});
  batch.sample_ids = kernels::from_vector(ctx, ids, {recipe.batch});
  return batch;
}

// Weights away from their start, where adaLN-Zero makes every block an identity.
void disturb(Context& ctx, nn::ParameterStore& store) {
  const Tensor noise = kernels::random_normal(ctx, store.flat().shape(), DType::f32, 5, 0);
  store.load(kernels::add(ctx, store.flat(),
                          kernels::cast(ctx, kernels::affine(ctx, noise, 0.02, 0.0), store.flat().dtype())));
}

// Loss and gradient of the same weights and batch in f32 and in f64.
void check(Context& ctx, nn::Dit& model, const nn::FlowBatch& flow) {
  nn::Dit wide(ctx, model.config(), 0, DType::f64);
  wide.parameters().load(kernels::cast(ctx, model.parameters().flat(), DType::f64));
  const auto cast = [&](const Tensor& x) { return kernels::cast(ctx, x, DType::f64); };
  const nn::FlowBatch wide_flow{cast(flow.x_t), cast(flow.target), flow.t, flow.y};
  const Var loss = nn::flow_loss(model, flow), wide_loss = nn::flow_loss(wide, wide_flow);
  backward(loss);
  backward(wide_loss);
  const double loss_error = relative_error(ctx, loss.value(), wide_loss.value());
  const double gradient_error =
      relative_error(ctx, model.parameters().flat_grad(), wide.parameters().flat_grad());
  require_correct("loss of the step in f32 against f64", loss_error, 1e-5);
  require_correct("gradient of the step in f32 against f64", gradient_error, 1e-3);
  model.parameters().zero_grad();
  print_line(text("correct: f32 against f64, loss %.1e, gradients %.1e", loss_error, gradient_error));
}

}  // namespace

Figures bench_step(Context& ctx, const Ceilings& ceilings) {
  nn::TrainOptions recipe = demo_recipe();
  recipe.model.classes = 4;
  nn::Dit model(ctx, recipe.model, 1);
  disturb(ctx, model.parameters());
  nn::Ema ema(model.parameters());
  nn::AdamW optimizer(model.parameters());
  const nn::Batch batch = synthetic_batch(ctx, recipe);
  nn::FlowOptions flow_options;
  flow_options.null_class = model.null_class();
  check(ctx, model, nn::make_flow_batch(ctx, batch.x, batch.y, batch.sample_ids, flow_options));

  const Timing timing = time_calls(
      [&] {
        backward(
            nn::flow_loss(model, nn::make_flow_batch(ctx, batch.x, batch.y, batch.sample_ids, flow_options)));
        optimizer.step(1e-6, &ema);
        model.parameters().zero_grad();
      },
      400, 8.0);
  const double flops = step_flops(model.config(), recipe.batch);
  const double rate = flops / timing.median / 1e9;
  const double tokens = static_cast<double>(recipe.batch * model.config().tokens());
  print_line(
      text("demo step: %lld images of %d x %d, width %d, %d blocks, %s attention: %.2f ms (least %.2f), %s "
           "tokens/s",
           static_cast<long long>(recipe.batch), model.config().height, model.config().width,
           model.config().channels(), model.config().layers, nn::name_of(model.config().attention).c_str(),
           1e3 * timing.median, 1e3 * timing.least, count_text(tokens / timing.median).c_str()));
  print_line(
      text("  %.2f MFLOP per token, %.0f GFLOP/s: %.1f %% of the multiply-add peak, %.1f %% of the "
           "matrix-product peak",
           flops / tokens / 1e6, rate, 100 * rate / ceilings.fma, 100 * rate / ceilings.matmul));
  nn::JsonWriter json;
  json.add("median_ms", 1e3 * timing.median)
      .add("least_ms", 1e3 * timing.least)
      .add("tokens_per_second", tokens / timing.median);
  json.add("gflops", rate).add("of_fma", rate / ceilings.fma).add("of_matmul", rate / ceilings.matmul);
  return {{"demo_step", json}};
}

}  // namespace llsa::apps

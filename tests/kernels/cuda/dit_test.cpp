// Whole training steps of a small DiT on the CUDA backend against the CPU backend.
#include "nn/dit.h"

#include <doctest/doctest.h>

#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/cuda/llsa/llsa.h"
#include "kernels/random.h"
#include "nn/diffusion/flow.h"
#include "nn/ema.h"
#include "nn/optim.h"
#include "tests/kernels/cuda/contexts.h"
#include "tests/kernels/cuda/orders.h"

using namespace llsa;
using namespace llsa::nn;
using namespace llsa::test;

TEST_SUITE_BEGIN("kernels/cuda/dit");

namespace {

DitConfig small(AttentionKind attention) {
  DitConfig c;
  c.heads = 2;
  c.head_dim = 8;
  c.layers = 2;
  c.height = c.width = 8;
  c.classes = 3;
  c.pos_embed = true;
  c.init = InitKind::published;
  c.attention = attention;
  c.llsa = {4, {2}, 1, -1, true};
  return c;
}

struct Outcome {
  std::vector<double> losses;
  std::vector<float> weights, average, other_average;
};

/// `steps` steps on made-up images; what is left at the end.
Outcome train(Context& ctx, const DitConfig& config, DType dtype, int steps) {
  Dit model(ctx, config, 3, dtype);
  AdamW optimizer(model.parameters());
  Ema ema(model.parameters());
  ema.keep_beside({.max_decay = 0.25});  // less than the decay of the second step
  FlowOptions options;
  options.null_class = config.classes;
  Outcome outcome;
  std::vector<Tensor> losses;
  const auto y = kernels::from_vector(ctx, std::vector<std::int32_t>{0, 2, 1}, Shape{3});
  std::uint64_t waited = 0;
  for (int step = 0; step < steps; ++step) {
    std::vector<std::int64_t> ids(3);
    std::iota(ids.begin(), ids.end(), 10 * step);
    const Tensor sample_ids = kernels::from_vector(ctx, ids, Shape{3});
    const Tensor x = kernels::random_uniform(ctx, Shape{3, 3, config.height, config.width}, dtype, 5,
                                             static_cast<std::uint64_t>(step));
    const FlowBatch batch = make_flow_batch(ctx, x, y, sample_ids, options);
    if (step == 1) waited = ctx.synchronizations();  // the first step makes tables
    model.parameters().zero_grad();
    const Var loss = flow_loss(ctx, model, batch);
    backward(loss);
    optimizer.step(1e-2, &ema);
    losses.push_back(loss.value());
  }
  if (steps > 1) CHECK(ctx.synchronizations() == waited);
  for (const Tensor& loss : losses) outcome.losses.push_back(ctx.item(loss));
  outcome.weights = kernels::to_vector<float>(ctx, model.parameters().flat());
  outcome.average = kernels::to_vector<float>(ctx, ema.flat());
  outcome.other_average = kernels::to_vector<float>(ctx, ema.others()[0]->flat());
  return outcome;
}

}  // namespace

TEST_CASE("training steps agree with the CPU") {
  if (!cuda_device()) return;
  Contexts both;
  std::vector<DitConfig> configs;
  for (const AttentionKind attention :
       {AttentionKind::full, AttentionKind::llsa, AttentionKind::vsa, AttentionKind::sla})
    configs.push_back(small(attention));
  configs.push_back(small(AttentionKind::llsa));
  configs.back().pred_x0 = true;
  for (const DitConfig& config : configs) {
    CAPTURE(name_of(config.attention));
    CAPTURE(config.pred_x0);
    const Outcome cpu = train(both.cpu, config, DType::f32, 3), gpu = train(both.gpu, config, DType::f32, 3);
    REQUIRE(gpu.losses.size() == 3);
    for (std::size_t i = 0; i < 3; ++i) {
      CAPTURE(i);
      CHECK(std::abs(gpu.losses[i] - cpu.losses[i]) <= 1e-4 * cpu.losses[i]);
    }
    // Adam's first steps are the sign of the gradient: entries whose gradient is rounding noise may differ.
    REQUIRE(gpu.weights.size() == cpu.weights.size());
    double sum = 0, all = 0;
    for (std::size_t i = 0; i < cpu.weights.size(); ++i) {
      sum += std::abs(gpu.weights[i] - cpu.weights[i]) + std::abs(gpu.average[i] - cpu.average[i]) +
             std::abs(gpu.other_average[i] - cpu.other_average[i]);
      all += std::abs(cpu.weights[i]) + std::abs(cpu.average[i]) + std::abs(cpu.other_average[i]);
    }
    CHECK(sum <= 1e-3 * all);
    CHECK(gpu.other_average != gpu.average);
  }
}

TEST_CASE("training in bf16 follows training in f32") {
  if (!cuda_device()) return;
  Contexts both;
  const DitConfig config = small(AttentionKind::full);
  const Outcome wide = train(both.cpu, config, DType::f32, 2),
                narrow = train(both.gpu, config, DType::bf16, 2);
  for (std::size_t i = 0; i < 2; ++i)
    CHECK(std::abs(narrow.losses[i] - wide.losses[i]) <= 0.05 * wide.losses[i]);
}

TEST_CASE("a bf16 step with LLSA on tensor cores errs at most twice as much as the CPU's in bf16") {
  if (!cuda_device()) return;
  Contexts both;
  DitConfig config = small(AttentionKind::llsa);
  config.head_dim = 32;
  config.layers = 1;
  config.height = config.width = 16;
  config.llsa = {16, {3}, -1, -1, true};
  const LlsaPlan plan = kernels::llsa_plan(config.tokens(), config.llsa);
  REQUIRE(plan.levels == 1);
  const Shape shape{1, config.heads, config.tokens(), config.head_dim};
  const Tensor x = both.gpu.empty(shape, DType::bf16);  // as q, k, v and O come and go in the model
  const Tensor o = both.gpu.empty({1, shape[2], shape[1], shape[3]}, DType::bf16).transpose(1, 2);
  const std::vector<Tensor> no_index;
  REQUIRE(kernels::cuda::fits_mma({plan, x, {x}, {x}, no_index}, o));

  struct Step {
    double loss = 0;
    std::vector<std::string> names;
    std::vector<std::vector<double>> gradients;
  };
  const auto step = [&](Context& ctx, DType dtype) {
    Dit model(ctx, config, 3, dtype);
    FlowOptions options;
    options.null_class = config.classes;
    const FlowBatch batch = make_flow_batch(
        ctx, kernels::random_uniform(ctx, Shape{1, 3, config.height, config.width}, DType::f32, 5, 0),
        kernels::from_vector(ctx, std::vector<std::int32_t>{2}, Shape{1}),
        kernels::from_vector(ctx, std::vector<std::int64_t>{7}, Shape{1}), options);
    const Var loss = flow_loss(ctx, model, batch);
    backward(loss);
    Step done;
    done.loss = ctx.item(loss.value());
    for (const Parameter& p : model.parameters().all()) {
      done.names.push_back(p.name);
      done.gradients.push_back(kernels::to_vector<double>(ctx, p.var.grad()));
    }
    return done;
  };
  const auto distance = [](const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0, all = 0;
    for (std::size_t i = 0; i < b.size(); ++i) {
      sum += (a[i] - b[i]) * (a[i] - b[i]);
      all += b[i] * b[i];
    }
    return std::sqrt(sum / all);
  };
  const Step exact = step(both.cpu, DType::f32), cpu = step(both.cpu, DType::bf16),
             gpu = step(both.gpu, DType::bf16);
  CHECK(std::abs(gpu.loss - exact.loss) <= 2 * std::abs(cpu.loss - exact.loss) + 1e-3 * exact.loss);
  // One by one: next to the gradients of the last layers those of queries and keys are small.
  for (std::size_t i = 0; i < exact.names.size(); ++i) {
    CAPTURE(exact.names[i]);
    const double plain = distance(cpu.gradients[i], exact.gradients[i]);
    CHECK(distance(gpu.gradients[i], exact.gradients[i]) <= 2 * plain);
    CHECK(plain <= 0.03);
  }
}

TEST_CASE("training steps give the same bits in all orders") {
  if (!cuda_device()) return;
  Contexts both;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    CAPTURE(std::string(name_of(dtype)));
    for_all_orders([&] { return train(both.gpu, small(AttentionKind::llsa), dtype, 2).weights; });
  }
}

TEST_SUITE_END();

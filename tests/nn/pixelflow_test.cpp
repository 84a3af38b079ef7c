#include "nn/pixelflow.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/random.h"
#include "nn/data/shapes.h"
#include "nn/diffusion/cascade_sampler.h"
#include "nn/optim.h"
#include "tests/support/files.h"
#include "tests/support/tensors.h"

namespace llsa::nn {

namespace {

PixelFlowConfig small(AttentionKind kind = AttentionKind::llsa) {
  PixelFlowConfig c;
  c.size = 16;
  c.patch = 2;
  c.heads = 2;
  c.head_dim = 8;
  c.layers = 2;
  c.classes = 3;
  c.attention = kind;
  c.llsa = {4, {2}, -1, -1, true};
  if (kind == AttentionKind::llsa) c.llsa.levels = 2;
  return c;
}

/// A batch of eight, two for each stage.
std::vector<FlowBatch> random_batch(Context& ctx, const PixelFlowConfig& c, DType dtype,
                                    std::int64_t first_id = 0) {
  const Tensor x = kernels::random_normal(ctx, Shape{8, c.image_channels, c.size, c.size}, dtype, 1,
                                          static_cast<std::uint64_t>(first_id));
  std::vector<std::int64_t> ids(8);
  std::iota(ids.begin(), ids.end(), first_id);
  std::vector<std::int32_t> y(8);
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = static_cast<std::int32_t>(i) % std::max(1, c.classes);
  return make_cascade_batch(ctx, x, c.classes > 0 ? kernels::from_vector(ctx, y, Shape{8}) : Tensor(),
                            kernels::from_vector(ctx, ids, Shape{8}), {.null_class = c.classes});
}

/// All parameters random: at first gates and outputs are zero, so that most gradients are zero, too.
void randomize(Parameters& params) {
  Context& ctx = params.context();
  const Tensor noise = kernels::random_normal(ctx, params.flat().shape(), params.flat().dtype(), 3, 3);
  kernels::accumulate(ctx, kernels::affine(ctx, noise, 0.1, 0.0), params.flat());
  params.refresh();
}

const auto kKinds = {AttentionKind::full, AttentionKind::llsa, AttentionKind::vsa, AttentionKind::sla};

}  // namespace

TEST_SUITE_BEGIN("nn/pixelflow");

TEST_CASE("the model of the paper has 676,611,120 parameters") {
  Context ctx(2);
  PixelFlowConfig c;
  const int layers = c.layers;
  const auto count = [&](int n) {
    c.layers = n;
    return PixelFlow(ctx, c, 1).parameters().parameter_count();
  };
  const std::int64_t one = count(1), two = count(2);
  CHECK(one + (layers - 1) * (two - one) == 676611120);
}

TEST_CASE("a new model predicts zero") {
  Context ctx(2);
  PixelFlow model(ctx, small(), 1);
  for (const FlowBatch& stage : random_batch(ctx, small(), DType::f32)) {
    const Var v = model.forward(Var(ctx, stage.x_t), stage.t, stage.y);
    CHECK(v.shape() == stage.x_t.shape());
    for (const float value : kernels::to_vector<float>(ctx, v.value())) CHECK(value == 0.0f);
  }
}

TEST_CASE("the gradient of the loss along a random direction, by differences in f64") {
  for (const AttentionKind kind : kKinds)
    for (const bool classes : {false, true}) {
      CAPTURE(name_of(kind));
      CAPTURE(classes);
      Context ctx(2);
      PixelFlowConfig c = small(kind);
      if (!classes) c.classes = 0;
      PixelFlow model(ctx, c, 1, DType::f64);
      Parameters& store = model.parameters();
      randomize(store);
      const auto batch = random_batch(ctx, c, DType::f64);
      backward(cascade_loss(ctx, model, batch));
      const Tensor start = kernels::clone(ctx, store.flat());
      const Tensor direction = kernels::random_normal(ctx, start.shape(), DType::f64, 9, 9);
      const double slope = test::dot(kernels::to_vector<double>(ctx, store.flat_grad()),
                                     kernels::to_vector<double>(ctx, direction));
      const auto loss_at = [&](double h) {
        store.load(kernels::add(ctx, start, kernels::affine(ctx, direction, h, 0.0)));
        const NoGrad no_grad;
        return ctx.item(cascade_loss(ctx, model, batch).value());
      };
      const double h = 1e-7;  // so small that no choice of blocks turns
      CHECK((loss_at(h) - loss_at(-h)) / (2 * h) == doctest::Approx(slope).epsilon(1e-5));
    }
}

TEST_CASE("sparse attention acts in the last stage only, and names the parameters of its kind") {
  for (const AttentionKind kind : {AttentionKind::llsa, AttentionKind::vsa, AttentionKind::sla}) {
    CAPTURE(name_of(kind));
    Context ctx(2);
    PixelFlow full(ctx, small(AttentionKind::full), 1), sparse(ctx, small(kind), 1);
    randomize(full.parameters());
    for (const Parameter& p : sparse.parameters().all())
      if (full.parameters().contains(p.name))
        kernels::copy(ctx, full.parameters().at(p.name).value(), p.var.value());
    const std::size_t extra = kind == AttentionKind::llsa ? 0 : 4;  // weight and bias in two layers
    CHECK(sparse.parameters().all().size() == full.parameters().all().size() + extra);
    const auto stages = random_batch(ctx, small(), DType::f32);
    for (std::size_t s = 0; s < stages.size(); ++s) {
      const FlowBatch& stage = stages[s];
      const Tensor a = full.forward(Var(ctx, stage.x_t), stage.t, stage.y).value();
      const Tensor b = sparse.forward(Var(ctx, stage.x_t), stage.t, stage.y).value();
      CHECK(test::same_bits(ctx, a, b) == (s < 3));
    }
  }
}

TEST_CASE("the kind `auto` is decided by the tokens of the last stage") {
  PixelFlowConfig c;
  c.attention = AttentionKind::automatic;
  c.llsa = {16, {8}, -1, -1, true};
  CHECK(c.resolved().attention == AttentionKind::llsa);  // 4096 tokens
  c.size = 32;
  CHECK(c.resolved().attention == AttentionKind::full);  // 64 tokens
}

TEST_CASE("bf16 follows f32") {
  Context ctx(2);
  const PixelFlowConfig c = small();
  const auto batch = random_batch(ctx, c, DType::f32);
  PixelFlow exact(ctx, c, 1), narrow(ctx, c, 1, DType::bf16);
  randomize(exact.parameters());
  randomize(narrow.parameters());
  const Var a = cascade_loss(ctx, exact, batch);
  const Var b = cascade_loss(ctx, narrow, batch);
  CHECK(ctx.item(b.value()) == doctest::Approx(ctx.item(a.value())).epsilon(0.03));
  backward(a);
  backward(b);
  const auto ga = kernels::to_vector<double>(ctx, exact.parameters().flat_grad());
  const auto gb = kernels::to_vector<double>(ctx, narrow.parameters().flat_grad());
  CHECK(test::dot(ga, gb) / std::sqrt(test::dot(ga, ga) * test::dot(gb, gb)) >= 0.98);
}

TEST_CASE("equal bits for 1, 2 and 3 threads, no waiting for the device") {
  for (const AttentionKind kind : kKinds) {
    CAPTURE(name_of(kind));
    const PixelFlowConfig c = small(kind);
    Context reader(1);
    Tensor weights, drawn;
    for (const int threads : {1, 2, 3}) {
      CAPTURE(threads);
      Context ctx(threads);
      PixelFlow model(ctx, c, 1);
      AdamW optimizer(model.parameters());
      std::int64_t before = 0;
      for (int step = 0; step < 6; ++step) {
        backward(cascade_loss(ctx, model, random_batch(ctx, c, DType::f32, 8 * step)));
        optimizer.step(1e-3);
        if (step == 0) before = static_cast<std::int64_t>(ctx.synchronizations());
      }
      CHECK(static_cast<std::int64_t>(ctx.synchronizations()) == before);
      CHECK(optimizer.count_skipped() == 0);
      const Tensor images = sample_cascade(ctx, model, {.count = 3, .steps = 2, .batch = 2});
      if (threads == 1) {
        weights = kernels::clone(ctx, model.parameters().flat());
        drawn = images;
      }
      CHECK(test::same_bits(reader, model.parameters().flat(), weights));
      CHECK(test::same_bits(reader, images, drawn));
    }
  }
}

TEST_CASE("training lowers the loss") {
  Context ctx(2);
  const PixelFlowConfig c = small();
  PixelFlow model(ctx, c, 1);
  AdamW optimizer(model.parameters(), {.weight_decay = 0.0, .clip = 1.0});
  const auto batch = random_batch(ctx, c, DType::f32);
  double first = 0, last = 0;
  for (int step = 0; step < 60; ++step) {
    const Var loss = cascade_loss(ctx, model, batch);
    backward(loss);
    optimizer.step(3e-3);
    last = ctx.item(loss.value());
    if (step == 0) first = last;
  }
  CHECK(last < 0.7 * first);
}

TEST_CASE("a training step on a folder's images, with an average that starts as a copy") {
  const test::TempDir dir;
  write_shapes({.out = dir / "shapes", .count = 16, .size = 16});
  Context ctx(2);
  PixelFlowConfig c = small();
  c.classes = 4;
  PixelFlow model(ctx, c, 1);
  const Denoiser denoiser = model;
  Loader loader(ctx, std::make_shared<ImageFolder>(dir / "shapes"), {.batch = 8, .height = 16, .width = 16});
  Loader same(ctx, std::make_shared<ImageFolder>(dir / "shapes"), {.batch = 8, .height = 16, .width = 16});
  Parameters& params = model.parameters();
  AdamW adam(params, {.weight_decay = 0.0, .clip = 1.0});
  Ema average(params, {.max_decay = 0.75, .warm_up = false});
  const Tensor start = kernels::clone(ctx, params.flat());
  CHECK(test::same_bits(ctx, average.flat(), start));
  const Batch batch = same.next();
  const auto stages = make_cascade_batch(ctx, batch.x, batch.y, batch.sample_ids, {.null_class = 4});
  const double expected = ctx.item(cascade_loss(ctx, denoiser, stages).value());
  TrainStep step(params, adam, &average, cascade_objective(ctx, denoiser, loader));
  step.run(1e-2);
  CHECK(ctx.item(step.loss()) == doctest::Approx(expected).epsilon(1e-6));
  const Tensor mixed = kernels::add(ctx, kernels::affine(ctx, start, 0.75, 0.0),
                                    kernels::affine(ctx, params.flat(), 0.25, 0.0));
  CHECK(test::relative_error(ctx, average.flat(), mixed) <= 1e-6);
  CHECK_FALSE(test::same_bits(ctx, params.flat(), start));
}

TEST_CASE("bad configurations and inputs are errors") {
  Context ctx(1);
  PixelFlowConfig c = small();
  c.size = 24;  // 3 pixels in the first stage, in patches of 2
  CHECK_THROWS_WITH_AS(c.validate(), doctest::Contains("not divisible by 16"), ValueError);
  try {
    c.validate();
  } catch (const ValueError& error) {
    CHECK(error.hint() == "the nearest sizes are 16 and 32");
  }
  c = small();
  c.head_dim = 6;
  CHECK_THROWS_AS(PixelFlow(ctx, c, 1), ValueError);

  PixelFlow model(ctx, small(), 1);
  const auto images = [&](const Shape& shape) { return Var(ctx, ctx.zeros(shape, DType::f32)); };
  const Tensor t = ctx.zeros(Shape{2}, DType::f32);
  const Tensor y = ctx.zeros(Shape{2}, DType::i32);
  CHECK_THROWS_WITH_AS(model.forward(images({2, 3, 16, 8}), t, y), doctest::Contains("square"), ShapeError);
  CHECK_THROWS_WITH_AS(model.forward(images({2, 3, 32, 32}), t, y), doctest::Contains("2, 4, 8 or 16"),
                       ShapeError);
  CHECK_THROWS_AS(model.forward(images({2, 4, 16, 16}), t, y), ShapeError);
  CHECK_THROWS_AS(model.forward(images({2, 3, 16, 16}), ctx.zeros(Shape{3}, DType::f32), y), ShapeError);
  CHECK_THROWS_AS(model.forward(images({2, 3, 16, 16}), t, Tensor()), ShapeError);
  const Tensor beyond = kernels::from_vector(ctx, std::vector<std::int32_t>{0, 4}, Shape{2});
  CHECK_THROWS_AS(model.forward(images({2, 3, 16, 16}), t, beyond), ValueError);
}

TEST_SUITE_END();

}  // namespace llsa::nn

#include "nn/dit.h"

#include <doctest/doctest.h>

#include <cmath>
#include <numeric>

#include "autograd/conv.h"
#include "autograd/loss.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/random.h"
#include "nn/diffusion/flow.h"
#include "nn/optim.h"
#include "tests/support/tensors.h"

namespace llsa::nn {

namespace {

DitConfig small() {
  DitConfig c;
  c.heads = 2;
  c.head_dim = 8;
  c.layers = 2;
  c.height = c.width = 8;
  c.classes = 3;
  c.init = InitKind::published;
  c.attention = AttentionKind::llsa;
  c.llsa = {4, {2}, 1, -1, true};
  return c;
}

FlowBatch random_batch(Context& ctx, const DitConfig& c, std::int64_t b, DType dtype,
                       std::int64_t first_id = 0) {
  const Tensor x = kernels::random_normal(ctx, Shape{b, c.in_channels, c.height, c.width}, dtype, 1,
                                          static_cast<std::uint64_t>(first_id));
  std::vector<std::int32_t> y(static_cast<std::size_t>(b));
  std::vector<std::int64_t> ids(y.size());
  std::iota(ids.begin(), ids.end(), first_id);
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = static_cast<std::int32_t>(i) % std::max(1, c.classes);
  FlowOptions options;
  options.null_class = c.classes;
  return make_flow_batch(ctx, x, c.classes > 0 ? kernels::from_vector(ctx, y, Shape{b}) : Tensor(),
                         kernels::from_vector(ctx, ids, Shape{b}), options);
}

/// One step of training on the samples first_id ..
void train_step(Context& ctx, Dit& model, AdamW& optimizer, Ema& ema, std::int64_t first_id) {
  const FlowBatch batch = random_batch(ctx, model.config(), 4, DType::f32, first_id);
  model.parameters().zero_grad();
  backward(flow_loss(ctx, model, batch));
  optimizer.step(1e-3, &ema);
}

}  // namespace

TEST_SUITE_BEGIN("nn/dit");

TEST_CASE("the model of the paper has 35,177,859 parameters") {
  Context ctx(1);
  DitConfig c;
  c.heads = 6;
  c.head_dim = 64;
  c.height = c.width = 128;
  const auto count = [&](int layers) {
    c.layers = layers;
    return Dit(ctx, c, 1).parameters().parameter_count();
  };
  const std::int64_t one = count(1), two = count(2);
  CHECK(one + 11 * (two - one) == 35177859);
}

TEST_CASE("adaLN-Zero starts at zero output, the published law does not") {
  Context ctx(1);
  DitConfig c = small();
  const FlowBatch batch = random_batch(ctx, c, 2, DType::f32);
  Dit published(ctx, c, 1);
  const auto loud =
      kernels::to_vector<float>(ctx, published.forward(Var(ctx, batch.x_t), batch.t, batch.y).value());
  CHECK(std::any_of(loud.begin(), loud.end(), [](float v) { return std::abs(v) > 1e-3f; }));
  c.init = InitKind::adaln_zero;
  Dit zero(ctx, c, 1);
  for (const float v :
       kernels::to_vector<float>(ctx, zero.forward(Var(ctx, batch.x_t), batch.t, batch.y).value()))
    CHECK(v == 0.0f);
}

TEST_CASE("a DiT that predicts the image has the flow that follows from its output") {
  Context ctx(1);
  DitConfig c = small();
  const FlowBatch batch = random_batch(ctx, c, 2, DType::f32);
  const Var x(ctx, batch.x_t);
  for (const bool image : {false, true}) {
    CAPTURE(image);
    c.pred_x0 = image;
    Dit model(ctx, c, 1);
    const Var output = model.forward(x, batch.t, batch.y);
    const Tensor expected = image ? flow_of_image(output, x, batch.t).value() : output.value();
    CHECK(test::same_bits(ctx, Denoiser(model)(x, batch.t, batch.y).value(), expected));
  }
}

TEST_CASE("the gradient of the loss along a random direction, by differences in f64") {
  for (const AttentionKind kind :
       {AttentionKind::full, AttentionKind::llsa, AttentionKind::vsa, AttentionKind::sla})
    for (const bool rich : {false, true}) {
      CAPTURE(name_of(kind));
      CAPTURE(rich);
      Context ctx(2);
      DitConfig c = small();
      c.attention = kind;
      c.qk_norm = c.attention_bias = c.reorder = rich;
      c.pos_embed = c.vsa_gate = c.pred_x0 = rich;
      c.classes = rich ? 3 : 0;
      c.patch = rich ? 1 : 2;
      Dit model(ctx, c, 1, DType::f64);
      Parameters& store = model.parameters();
      const FlowBatch batch = random_batch(ctx, c, 2, DType::f64);
      backward(flow_loss(ctx, model, batch));
      const Tensor start = kernels::clone(ctx, store.flat());
      const Tensor direction = kernels::random_normal(ctx, start.shape(), DType::f64, 9, 9);
      const auto g = kernels::to_vector<double>(ctx, store.flat_grad());
      const auto u = kernels::to_vector<double>(ctx, direction);
      const double slope = std::inner_product(g.begin(), g.end(), u.begin(), 0.0);
      const auto loss_at = [&](double h) {
        store.load(kernels::add(ctx, start, kernels::affine(ctx, direction, h, 0.0)));
        const NoGrad no_grad;
        return ctx.item(flow_loss(ctx, model, batch).value());
      };
      const double h = 1e-6;
      CHECK((loss_at(h) - loss_at(-h)) / (2 * h) == doctest::Approx(slope).epsilon(1e-5));
    }
}

TEST_CASE("proj_in is the convolution with stride = kernel = patch") {
  // One layer whose gates are zero leaves the tokens as they are, so the output norm sees proj_in alone.
  Context ctx(1);
  DitConfig c = small();
  c.patch = 2;
  c.layers = 1;
  c.attention = AttentionKind::full;
  c.in_channels = 3;
  Dit model(ctx, c, 1);
  const Parameters& store = model.parameters();
  const Tensor x = kernels::random_normal(ctx, Shape{2, 3, 8, 8}, DType::f32, 1, 1);
  const Var conv = conv2d(Var(ctx, x), store.at("proj_in.weight"), store.at("proj_in.bias"), {2, 2}, {0, 0});
  const Tensor flat_weight = store.at("proj_in.weight").value().reshape({16, 12});
  const Tensor patches = kernels::contiguous(ctx, x.reshape({2, 3, 4, 2, 4, 2}).permute({0, 2, 4, 1, 3, 5}));
  const Linear as_linear(Var(ctx, flat_weight), store.at("proj_in.bias"));
  const Var tokens = as_linear(Var(ctx, patches.reshape({2, 16, 12})));
  const Tensor expected = kernels::contiguous(ctx, conv.value().reshape({2, 16, 16}).transpose(1, 2));
  CHECK(test::relative_error(ctx, tokens.value(), expected) <= 1e-5);
}

TEST_CASE("with full attention the order of tokens does not matter") {
  Context ctx(2);
  DitConfig c = small();
  c.attention = AttentionKind::full;
  c.pos_embed = true;
  c.height = 6;
  c.width = 10;
  c.patch = 2;
  const FlowBatch batch = random_batch(ctx, c, 2, DType::f32);
  Dit morton(ctx, c, 1);
  c.reorder = false;
  Dit raster(ctx, c, 1);
  const Tensor a = morton.forward(Var(ctx, batch.x_t), batch.t, batch.y).value();
  const Tensor b = raster.forward(Var(ctx, batch.x_t), batch.t, batch.y).value();
  CHECK(test::relative_error(ctx, a, b) <= 1e-5);
}

TEST_CASE("sizes without a power of two, other resolutions, odd patches") {
  Context ctx(2);
  DitConfig c = small();
  c.height = 30;
  c.width = 20;
  c.patch = 2;
  c.llsa.levels = -1;
  c.pos_embed = true;
  Dit model(ctx, c, 1);
  CHECK(model.parameters().find("pos_embed").shape == Shape{15, 10, 16});
  FlowBatch batch = random_batch(ctx, c, 2, DType::f32);
  backward(flow_loss(ctx, model, batch));
  const auto finite = [&](const Tensor& x) { return ctx.item(kernels::all_finite(ctx, x)) == 1.0; };
  CHECK(finite(model.parameters().flat_grad()));
  for (const auto& [height, width] : {std::pair{2, 2}, {16, 16}, {62, 34}}) {
    const Tensor x = kernels::random_normal(ctx, Shape{2, 3, height, width}, DType::f32, 1, 1);
    const Tensor out = model.forward(Var(ctx, x), batch.t, batch.y).value();
    CHECK(out.shape() == x.shape());
    CHECK(finite(out));
  }
  const Tensor x = ctx.zeros(Shape{2, 3, 31, 20}, DType::f32);
  CHECK_THROWS_AS(model.forward(Var(ctx, x), batch.t, batch.y), ValueError);
}

TEST_CASE("the position embedding is resized bilinearly") {
  Context ctx(1);
  // A plane stays a plane away from the border: value = 10 row + column on cell centres.
  std::vector<double> plane;
  for (int r = 0; r < 4; ++r)
    for (int k = 0; k < 6; ++k) plane.push_back(10.0 * r + k);
  const Var grid(ctx, kernels::from_vector(ctx, plane, Shape{4, 6, 1}));
  const auto doubled = kernels::to_vector<double>(ctx, resize_position_embedding(grid, 8, 12).value());
  for (int r = 0; r < 8; ++r)
    for (int k = 0; k < 12; ++k) {
      const double row = std::min(std::max((r + 0.5) / 2 - 0.5, 0.0), 3.0);
      const double column = std::min(std::max((k + 0.5) / 2 - 0.5, 0.0), 5.0);
      CHECK(doubled[static_cast<std::size_t>(r * 12 + k)] == doctest::Approx(10.0 * row + column));
    }
  CHECK(test::same_bits(ctx, resize_position_embedding(grid, 4, 6).value(), grid.value()));
  CHECK(resize_position_embedding(grid, 1, 3).value().shape() == Shape{1, 3, 1});
}

TEST_CASE("bf16 follows f32") {
  Context ctx(2);
  const DitConfig c = small();
  const FlowBatch batch = random_batch(ctx, c, 2, DType::f32);
  Dit exact(ctx, c, 1), narrow(ctx, c, 1, DType::bf16);
  const Var a = flow_loss(ctx, exact, batch);
  const Var b = flow_loss(ctx, narrow, batch);
  CHECK(ctx.item(b.value()) == doctest::Approx(ctx.item(a.value())).epsilon(0.03));
  backward(a);
  backward(b);
  const auto ga = kernels::to_vector<double>(ctx, exact.parameters().flat_grad());
  const auto gb = kernels::to_vector<double>(ctx, narrow.parameters().flat_grad());
  const double dot = std::inner_product(ga.begin(), ga.end(), gb.begin(), 0.0);
  const double aa = std::inner_product(ga.begin(), ga.end(), ga.begin(), 0.0);
  const double bb = std::inner_product(gb.begin(), gb.end(), gb.begin(), 0.0);
  CHECK(dot / std::sqrt(aa * bb) >= 0.98);
}

TEST_CASE("bad inputs are errors") {
  Context ctx(1);
  Dit model(ctx, small(), 1);
  const Tensor x = ctx.zeros(Shape{2, 3, 8, 8}, DType::f32);
  const Tensor t = ctx.zeros(Shape{2}, DType::f32);
  const Tensor y = ctx.zeros(Shape{2}, DType::i32);
  CHECK_THROWS_AS(model.forward(Var(ctx, ctx.zeros(Shape{2, 4, 8, 8}, DType::f32)), t, y), ShapeError);
  CHECK_THROWS_AS(model.forward(Var(ctx, x), ctx.zeros(Shape{3}, DType::f32), y), ShapeError);
  CHECK_THROWS_AS(model.forward(Var(ctx, x), t, Tensor()), ShapeError);
  CHECK_THROWS_AS(
      model.forward(Var(ctx, x), t, kernels::from_vector(ctx, std::vector<std::int32_t>{0, 4}, Shape{2})),
      ValueError);
}

TEST_CASE("equal bits for 1, 2 and 3 threads: a step, 20 steps, no waiting for the device") {
  for (const AttentionKind kind :
       {AttentionKind::full, AttentionKind::llsa, AttentionKind::vsa, AttentionKind::sla}) {
    CAPTURE(name_of(kind));
    DitConfig c = small();
    c.attention = kind;
    c.head_dim = 32;
    c.height = c.width = 12;
    c.init = InitKind::adaln_zero;
    Context reader(1);
    Tensor after_one, after_all, average;
    for (const int threads : {1, 2, 3}) {
      CAPTURE(threads);
      Context ctx(threads);
      Dit model(ctx, c, 1);
      AdamW optimizer(model.parameters());
      Ema ema(model.parameters());
      train_step(ctx, model, optimizer, ema, 0);
      const Tensor one = kernels::clone(ctx, model.parameters().flat());
      const auto before = ctx.synchronizations();
      for (int step = 1; step < 20; ++step) train_step(ctx, model, optimizer, ema, 4 * step);
      CHECK(ctx.synchronizations() == before);
      CHECK(optimizer.count_skipped() == 0);
      if (threads == 1) {
        after_one = one;
        after_all = kernels::clone(ctx, model.parameters().flat());
        average = kernels::clone(ctx, ema.flat());
      }
      CHECK(test::same_bits(reader, one, after_one));
      CHECK(test::same_bits(reader, model.parameters().flat(), after_all));
      CHECK(test::same_bits(reader, ema.flat(), average));
    }
  }
}

TEST_CASE("training lowers the loss") {
  Context ctx(2);
  DitConfig c = small();
  c.init = InitKind::adaln_zero;
  Dit model(ctx, c, 1);
  AdamW optimizer(model.parameters());
  const FlowBatch batch = random_batch(ctx, c, 4, DType::f32);
  double first = 0, last = 0;
  for (int step = 0; step < 60; ++step) {
    const Var loss = flow_loss(ctx, model, batch);
    model.parameters().zero_grad();
    backward(loss);
    optimizer.step(3e-3);
    last = ctx.item(loss.value());
    if (step == 0) first = last;
  }
  CHECK(last < 0.7 * first);
}

TEST_SUITE_END();

}  // namespace llsa::nn

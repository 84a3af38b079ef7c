#include "nn/diffusion/cascade.h"

#include <doctest/doctest.h>

#include <cmath>
#include <numeric>
#include <set>
#include <utility>
#include <vector>

#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/random.h"
#include "kernels/reduce.h"
#include "nn/diffusion/cascade_sampler.h"
#include "tests/support/tensors.h"

namespace llsa::nn {

namespace {

Tensor ids(Context& ctx, std::int64_t first, std::int64_t count) {
  std::vector<std::int64_t> v(static_cast<std::size_t>(count));
  std::iota(v.begin(), v.end(), first);
  return kernels::from_vector(ctx, v, Shape{count});
}

/// The flow of a model that knows one number for each class: towards the constant image of that number.
Denoiser constant(Context& ctx, std::vector<double> goals) {
  const auto classes = static_cast<int>(goals.size()) - 1;
  const auto predict = [&ctx, goals](const Var& x, const Tensor&, const Tensor& y) {
    const auto of_image = kernels::to_vector<std::int32_t>(ctx, y);
    std::vector<float> v(static_cast<std::size_t>(x.value().numel()));
    for (std::size_t i = 0; i < v.size(); ++i)
      v[i] = static_cast<float>(goals[static_cast<std::size_t>(of_image[i / (v.size() / of_image.size())])]);
    return Var(ctx, kernels::from_vector(ctx, v, x.shape()));
  };
  return {.predict = predict, .channels = 1, .height = 16, .width = 8, .classes = classes};
}

}  // namespace

TEST_SUITE_BEGIN("nn/diffusion/cascade");

TEST_CASE("weights and times of the stages") {
  const double start[] = {0, 1.0 / 7, 1.0 / 3, 0.6}, end[] = {0.25, 0.5, 0.75, 1};
  const double first[] = {0, 175, 426, 719}, last[] = {174.825, 425.749, 718.707, 999};
  for (int s = 0; s < kCascadeStages; ++s) {
    const CascadeStage stage = cascade_stage(s);
    CHECK(stage.start == doctest::Approx(start[s]));
    CHECK(stage.end == doctest::Approx(end[s]));
    CHECK(stage.time == first[s]);
    CHECK(stage.time + 999 * stage.time_step == doctest::Approx(last[s]).epsilon(1e-9));
  }
  CHECK_THROWS_AS(cascade_stage(4), ValueError);
  CHECK_THROWS_AS(cascade_stage(-1), ValueError);
}

TEST_CASE("halve and twice") {
  Context ctx(2);
  const Tensor x = kernels::from_vector(ctx, std::vector<float>{1, 2, 5, 6, 3, 4, 7, 8}, Shape{1, 1, 2, 4});
  CHECK(kernels::to_vector<float>(ctx, halve(ctx, x)) == std::vector<float>{2.5, 6.5});
  const Tensor y = twice(ctx, halve(ctx, x));
  CHECK(kernels::to_vector<float>(ctx, y) == std::vector<float>{2.5, 2.5, 6.5, 6.5, 2.5, 2.5, 6.5, 6.5});
  CHECK_THROWS_AS(halve(ctx, ctx.zeros(Shape{1, 1, 2, 3}, DType::f32)), ShapeError);
  CHECK_THROWS_AS(twice(ctx, ctx.zeros(Shape{2, 3}, DType::f32)), ShapeError);
}

TEST_CASE("a batch is spread evenly, and draws depend on stage and sample only") {
  Context ctx(2);
  const std::int64_t b = 8;
  const Tensor x = kernels::random_uniform(ctx, Shape{b, 2, 24, 8}, DType::f32, 1, 2);
  const Tensor y = kernels::from_vector(ctx, std::vector<std::int32_t>{0, 1, 2, 3, 0, 1, 2, 3}, Shape{b});
  CascadeOptions options{.class_drop = 0.5, .null_class = 4};
  const auto all = make_cascade_batch(ctx, x, y, ids(ctx, 100, b), options);
  REQUIRE(all.size() == 4);
  const auto odd = [&](const Tensor& t) {  // every second sample
    return kernels::contiguous(ctx, t.slice(0, 1, b, 2));
  };
  const auto part = make_cascade_batch(ctx, odd(x), odd(y), odd(ids(ctx, 100, b)), options);
  for (std::size_t s = 0; s < 4; ++s) {
    CAPTURE(s);
    const std::int64_t factor = 1 << (3 - s);
    CHECK(all[s].x_t.shape() == Shape{2, 2, 24 / factor, 8 / factor});
    CHECK(test::same_bits(ctx, all[s].x_t.slice(0, 1, 2), part[s].x_t));
    CHECK(test::same_bits(ctx, all[s].target.slice(0, 1, 2), part[s].target));
    CHECK(test::same_bits(ctx, all[s].t.slice(0, 1, 2), part[s].t));
    CHECK(test::same_bits(ctx, all[s].y.slice(0, 1, 2), part[s].y));
  }
  options.seed = 1;
  CHECK_FALSE(
      test::same_bits(ctx, make_cascade_batch(ctx, x, y, ids(ctx, 100, b), options)[3].x_t, all[3].x_t));
  CHECK_FALSE(make_cascade_batch(ctx, x, Tensor(), ids(ctx, 100, b), options)[0].y.defined());
}

TEST_CASE("times are uniform over a thousand values in each stage") {
  Context ctx(2);
  const std::int64_t n = 40000;
  const Tensor x = ctx.zeros(Shape{n, 1, 8, 8}, DType::f32);
  const auto stages = make_cascade_batch(ctx, x, Tensor(), ids(ctx, 0, n), {});
  for (int s = 0; s < kCascadeStages; ++s) {
    CAPTURE(s);
    const CascadeStage stage = cascade_stage(s);
    std::set<float> expected, values;
    for (int i = 0; i < 1000; ++i) expected.insert(static_cast<float>(stage.time + stage.time_step * i));
    double sum = 0;
    for (const float t : kernels::to_vector<float>(ctx, stages[static_cast<std::size_t>(s)].t)) {
      values.insert(t);
      sum += (t - stage.time) / stage.time_step;
    }
    CHECK(values == expected);
    CHECK(4 * sum / static_cast<double>(n) == doctest::Approx(499.5).epsilon(0.02));
  }
}

TEST_CASE("the loss is the mean over all samples") {
  Context ctx(1);
  const Denoiser model = constant(ctx, {0.5, 0.25});
  const auto batch = [&](double target, std::int64_t samples, std::int64_t side) {
    FlowBatch b;
    b.x_t = ctx.zeros(Shape{samples, 1, side, side}, DType::f32);
    b.target = ctx.zeros(b.x_t.shape(), DType::f32);
    kernels::fill(ctx, b.target, target);
    b.t = ctx.zeros(Shape{samples}, DType::f32);
    b.y = ctx.zeros(Shape{samples}, DType::i32);
    return b;
  };
  const Var loss = cascade_loss(ctx, model, {batch(0.5, 1, 2), batch(1.5, 3, 4)});
  CHECK(ctx.item(loss.value()) == doctest::Approx(0.75));
  CHECK_THROWS_AS(cascade_loss(ctx, model, {}), ValueError);
}

TEST_CASE("noise between stages: with that of the enlarged pixels it is white") {
  Context ctx(2);
  const std::int64_t n = 100000;
  const Tensor low = kernels::random_normal(ctx, Shape{n, 1, 1, 1}, DType::f64, 1, 1);
  const Tensor noise = square_noise(ctx, kernels::random_normal(ctx, Shape{n, 1, 2, 2}, DType::f64, 1, 2));
  for (int s = 1; s < kCascadeStages; ++s) {
    CAPTURE(s);
    // At the end of the stage before, the noise of a pixel has the deviation 1 - o; in this one it must be 1 - start.
    const double before = 1.0 - cascade_stage(s - 1).end, after = 1.0 - cascade_stage(s).start;
    const auto x =
        kernels::to_vector<double>(ctx, enter_stage(ctx, s, kernels::affine(ctx, low, before, 0.0), noise));
    for (std::size_t i = 0; i < 4; ++i)
      for (std::size_t j = 0; j <= i; ++j) {
        double covariance = 0;
        for (std::size_t k = 0; k < x.size(); k += 4) covariance += x[k + i] * x[k + j];
        covariance /= static_cast<double>(n) * after * after;
        CHECK(covariance == doctest::Approx(i == j ? 1.0 : 0.0).epsilon(0.02).scale(1.0));
      }
  }
  CHECK_THROWS_AS(enter_stage(ctx, 0, low, noise), ValueError);
}

TEST_CASE("guidance grows from stage to stage") {
  Context ctx(1);
  const Denoiser model = constant(ctx, {3.0, 1.0});
  const Tensor y = ctx.zeros(Shape{1}, DType::i32);
  const double weight[] = {1, 1.25, 2, 2.5};
  for (int s = 0; s < kCascadeStages; ++s) {
    const Tensor x = ctx.zeros(Shape{1, 1, 2, 2}, DType::f32);
    int steps = 0;
    const Tensor end = cascade_euler(ctx, model, s, x, y, 2.5, 3, [&](const Tensor&) { return ++steps > 0; });
    CHECK(steps == 3);
    CHECK(ctx.item(end.slice(2, 0, 1).slice(3, 0, 1)) == doctest::Approx(1.0 + weight[s] * 2.0));
  }
}

TEST_CASE("an image depends on seed and number, not on the batch") {
  Context ctx(2);
  const Denoiser model = constant(ctx, {0.5, -0.5, 0.0});
  CascadeSampleOptions options{.count = 5, .steps = 2};
  const Tensor together = sample_cascade(ctx, model, options);
  CHECK(together.shape() == Shape{5, 1, 16, 8});
  options.batch = 2;
  std::int64_t calls = 0;
  const auto count = [&](std::int64_t done, std::int64_t total) {
    CHECK(done == ++calls);
    CHECK(total == 24);
  };
  const Tensor apart = sample_cascade(ctx, model, options, {.on_progress = count});
  CHECK(calls == 24);
  CHECK(test::relative_error(ctx, apart, together) <= 1e-6);
  options.seed = 7;
  CHECK_FALSE(test::relative_error(ctx, sample_cascade(ctx, model, options), together) <= 1e-2);
}

TEST_CASE("a host that stops the work gets the images that were finished") {
  Context ctx(1);
  const Denoiser model = constant(ctx, {0.5, -0.5, 0.0});
  const CascadeSampleOptions options{.count = 5, .steps = 2, .batch = 2};
  for (const auto& expected : {std::pair{1, 0}, {2, 0}, {8, 2}, {9, 2}, {23, 4}, {24, 5}}) {
    const int steps = expected.first, images = expected.second;
    CAPTURE(steps);
    int asked = 0;
    const auto stop = [&] { return ++asked == steps; };
    CHECK(sample_cascade(ctx, model, options, {.should_stop = stop}).size(0) == images);
    CHECK(asked == steps);
  }
}

TEST_CASE("bad batches, sides and options are errors") {
  Context ctx(1);
  const auto batch = [&](const Shape& shape) {
    return make_cascade_batch(ctx, ctx.zeros(shape, DType::f32), Tensor(), ids(ctx, 0, shape[0]), {});
  };
  CHECK_THROWS_WITH_AS(batch({6, 3, 16, 16}), doctest::Contains("spread evenly over 4 stages, got 6"),
                       ShapeError);
  CHECK_THROWS_WITH_AS(batch({4, 3, 16, 12}), doctest::Contains("sides that 8 divides"), ShapeError);
  CHECK_THROWS_AS(batch({4, 3, 16}), ShapeError);
  const Tensor x = ctx.zeros(Shape{1, 3, 16, 16}, DType::f32);
  CHECK_THROWS_AS(make_stage_batch(ctx, 1, x, x, ctx.zeros(Shape{1}, DType::i32)), ShapeError);
  Denoiser model = constant(ctx, {0.5, 0.0});
  CHECK_THROWS_AS(sample_cascade(ctx, model, {.steps = 0}), ValueError);
  CHECK_THROWS_AS(sample_cascade(ctx, model, {.classes = {5}}), ValueError);
  CHECK_THROWS_AS(sample_cascade(ctx, model, {.guidance = -1.0}), ValueError);
  model.width = 12;
  CHECK_THROWS_WITH_AS(sample_cascade(ctx, model, {}), doctest::Contains("16 x 12"), ValueError);
}

TEST_SUITE_END();

}  // namespace llsa::nn

#include "nn/diffusion/flow.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <vector>

#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/random.h"
#include "tests/support/tensors.h"

namespace llsa::nn {

namespace {

Tensor ids(Context& ctx, std::int64_t first, std::int64_t count) {
  std::vector<std::int64_t> v(static_cast<std::size_t>(count));
  std::iota(v.begin(), v.end(), first);
  return kernels::from_vector(ctx, v, Shape{count});
}

}  // namespace

TEST_SUITE_BEGIN("nn/diffusion/flow");

TEST_CASE("x_t and target follow from the noise") {
  Context ctx(2);
  const Tensor x = kernels::random_uniform(ctx, Shape{3, 2, 4, 5}, DType::f32, 1, 2);
  FlowOptions options;
  options.noise_scale = 2.0;
  const auto batch = make_flow_batch(ctx, x, Tensor(), ids(ctx, 10, 3), options);
  const auto xs = kernels::to_vector<double>(ctx, x);
  const auto noisy = kernels::to_vector<double>(ctx, batch.x_t);
  const auto target = kernels::to_vector<double>(ctx, batch.target);
  const auto t = kernels::to_vector<double>(ctx, batch.t);
  CHECK_FALSE(batch.y.defined());
  double squares = 0;
  for (std::size_t i = 0; i < xs.size(); ++i) {
    const double sigma = t[i / 40] / 1000.0;
    const double noise = target[i] + xs[i];  // s eps
    CHECK(noisy[i] == doctest::Approx((1 - sigma) * xs[i] + sigma * noise).epsilon(1e-5));
    squares += noise * noise;
  }
  CHECK(std::sqrt(squares / static_cast<double>(xs.size())) == doctest::Approx(2.0).epsilon(0.2));
}

TEST_CASE("a sample's draws do not depend on its batch") {
  Context ctx(2);
  const Tensor x = kernels::random_uniform(ctx, Shape{6, 3, 4, 4}, DType::f32, 1, 2);
  const Tensor y = kernels::from_vector(ctx, std::vector<std::int32_t>{0, 1, 2, 3, 0, 1}, Shape{6});
  FlowOptions options;
  options.class_drop = 0.5;
  options.null_class = 4;
  const auto all = make_flow_batch(ctx, x, y, ids(ctx, 100, 6), options);
  const auto part = make_flow_batch(ctx, x.slice(0, 2, 5), y.slice(0, 2, 5), ids(ctx, 102, 3), options);
  CHECK(test::same_bits(ctx, all.x_t.slice(0, 2, 5), part.x_t));
  CHECK(test::same_bits(ctx, all.target.slice(0, 2, 5), part.target));
  CHECK(test::same_bits(ctx, all.t.slice(0, 2, 5), part.t));
  CHECK(test::same_bits(ctx, all.y.slice(0, 2, 5), part.y));
  options.seed = 1;
  CHECK_FALSE(test::same_bits(ctx, make_flow_batch(ctx, x, y, ids(ctx, 100, 6), options).x_t, all.x_t));
}

TEST_CASE("noise levels are uniform over a thousand values") {
  Context ctx(1);
  const std::int64_t n = 20000;
  const auto levels =
      kernels::to_vector<float>(ctx, kernels::noise_levels(ctx, ids(ctx, 0, n), NoiseLevel::uniform, 3, 4));
  double sum = 0;
  std::set<float> values;
  for (const float s : levels) {
    sum += s;
    values.insert(s);
    CHECK(static_cast<float>(std::round(s * 1000.0) / 1000.0) == s);
  }
  CHECK(sum / static_cast<double>(n) == doctest::Approx(0.5005).epsilon(0.01));
  CHECK(values.size() == 1000);
  CHECK(*values.begin() == 0.001f);
  CHECK(*values.rbegin() == 1.0f);
}

TEST_CASE("logit-normal levels lie in the middle") {
  Context ctx(1);
  const std::int64_t n = 20000;
  const auto levels = kernels::to_vector<float>(
      ctx, kernels::noise_levels(ctx, ids(ctx, 0, n), NoiseLevel::logit_normal, 3, 4));
  double sum = 0;
  std::int64_t middle = 0;
  for (const float s : levels) {
    CHECK(s > 0.0f);
    CHECK(s <= 1.0f);
    sum += s;
    middle += s > 0.25f && s < 0.75f;
  }
  CHECK(sum / static_cast<double>(n) == doctest::Approx(0.5005).epsilon(0.01));
  // P(|z| < ln 3) = 0.728
  CHECK(static_cast<double>(middle) / static_cast<double>(n) == doctest::Approx(0.728).epsilon(0.02));
}

TEST_CASE("the logit of 1 - sigma has the mean and the deviation asked for") {
  Context ctx(1);
  const std::int64_t n = 20000;
  const auto levels = [&](double mean, double deviation) {
    return kernels::to_vector<double>(
        ctx, kernels::noise_levels(ctx, ids(ctx, 0, n), NoiseLevel::logit_normal, 3, 4, {mean, deviation}));
  };
  const auto sigmoid = [](double z) { return 1.0 / (1.0 + std::exp(-z)); };
  const auto share = [](const std::vector<double>& sigma, double low, double high) {
    const auto inside =
        std::count_if(sigma.begin(), sigma.end(), [&](double s) { return low < s && s < high; });
    return static_cast<double>(inside) / static_cast<double>(n);
  };
  const auto jit = levels(-0.8, 0.8);  // more noise than image
  CHECK(share(jit, 1.0 - sigmoid(-0.8), 1.1) == doctest::Approx(0.5).epsilon(0.02));
  CHECK(share(jit, 1.0 - sigmoid(0.0), 1.0 - sigmoid(-1.6)) == doctest::Approx(0.6827).epsilon(0.02));
  for (const double sigma : levels(0.0, 0.0)) CHECK(sigma == doctest::Approx(0.5).epsilon(1e-6));
  for (const double sigma : levels(100.0, 0.0)) CHECK(sigma == doctest::Approx(0.001).epsilon(1e-6));
  for (const double sigma : levels(-100.0, 0.0)) CHECK(sigma == 1.0);
  FlowOptions options;
  options.law = NoiseLevel::logit_normal;
  options.logit_normal = {-100.0, 0.0};
  const Tensor x = ctx.zeros(Shape{2, 1, 2, 2}, DType::f32);
  CHECK(kernels::to_vector<double>(ctx, make_flow_batch(ctx, x, Tensor(), ids(ctx, 0, 2), options).t) ==
        std::vector<double>{1000, 1000});
  CHECK_THROWS_AS(levels(0.0, -1.0), ValueError);
  CHECK_THROWS_AS(levels(std::nan(""), 1.0), ValueError);
}

TEST_CASE("the flow of a network that predicts the image, above and below the bound of sigma") {
  Context ctx(1);
  const std::vector<double> sigma = {1.0, 0.5, 0.05, 0.02, 0.001};
  const auto b = static_cast<std::int64_t>(sigma.size());
  const Tensor t = kernels::cast(
      ctx, kernels::affine(ctx, kernels::from_vector(ctx, sigma, Shape{b}), 1000.0, 0.0), DType::f32);
  const Shape shape{b, 2, 3, 3};
  const Tensor x = kernels::random_uniform(ctx, shape, DType::f64, 1, 1),
               eps = kernels::random_normal(ctx, shape, DType::f64, 1, 2);
  const auto pair = kernels::flow_mix(ctx, x, eps, kernels::affine(ctx, t, 1e-3, 0.0), 2.0);
  const auto flow_of = [&](const Tensor& output) {
    return kernels::to_vector<double>(ctx, flow_of_image(Var(ctx, output), Var(ctx, pair.x_t), t).value());
  };
  const auto exact = flow_of(x);
  const auto target = kernels::to_vector<double>(ctx, pair.target);
  // The output that gives the target at every level: x_t - max(sigma, 0.05) target.
  const Tensor bound =
      kernels::from_vector(ctx, std::vector<double>{1.0, 0.5, 0.05, 0.05, 0.05}, Shape{b, 1, 1, 1});
  const auto best = flow_of(kernels::sub(ctx, pair.x_t, kernels::mul(ctx, bound, pair.target)));
  for (std::size_t i = 0; i < target.size(); ++i) {
    const double s = sigma[i / 18];
    CHECK(exact[i] == doctest::Approx(std::min(1.0, s / 0.05) * target[i]).epsilon(1e-5));
    CHECK(best[i] == doctest::Approx(target[i]).epsilon(1e-5));
  }
  CHECK_THROWS_AS(flow_of_image(Var(ctx, x.slice(1, 0, 1)), Var(ctx, pair.x_t), t), ShapeError);
}

TEST_CASE("the loss of the image is that of the flow times max(sigma, 0.05)^2, sample by sample") {
  Context ctx(1);
  const std::int64_t n = 64;
  const Tensor x = kernels::random_uniform(ctx, Shape{n, 1, 2, 2}, DType::f32, 1, 2);
  FlowOptions options;
  options.law = NoiseLevel::logit_normal;
  options.logit_normal = {2.0, 2.0};  // levels on both sides of the bound
  const auto plain = make_flow_batch(ctx, x, Tensor(), ids(ctx, 0, n), options);
  options.loss = FlowLoss::x;
  const auto weighted = make_flow_batch(ctx, x, Tensor(), ids(ctx, 0, n), options);
  CHECK(test::same_bits(ctx, plain.x_t, weighted.x_t));
  CHECK(test::same_bits(ctx, plain.target, weighted.target));
  const Denoiser zero{.predict = [](const Var& in, const Tensor&, const Tensor&) {
    return Var(in.context(), in.context().zeros(in.shape(), in.dtype()));
  }};
  const auto target = kernels::to_vector<double>(ctx, plain.target),
             t = kernels::to_vector<double>(ctx, plain.t);
  double sum = 0;
  int low = 0;
  for (std::size_t i = 0; i < target.size(); ++i) {
    const double weight = std::max(t[i / 4] / 1000.0, 0.05);
    low += t[i / 4] < 50;
    sum += weight * weight * target[i] * target[i];
  }
  CHECK(low > 4);
  CHECK(flow_loss(ctx, zero, weighted).item() ==
        doctest::Approx(sum / static_cast<double>(target.size())).epsilon(1e-5));
  CHECK_THROWS_AS(flow_loss_kind("eps"), ValueError);
}

TEST_CASE("classes are dropped with their probability") {
  Context ctx(1);
  const std::int64_t n = 20000;
  const Tensor y = ctx.zeros(Shape{n}, DType::i32);
  const auto dropped =
      kernels::to_vector<std::int32_t>(ctx, kernels::drop_classes(ctx, y, ids(ctx, 0, n), 0.1, 9, 3, 4));
  std::int64_t count = 0;
  for (const auto c : dropped) {
    CHECK((c == 0 || c == 9));
    count += c == 9;
  }
  CHECK(static_cast<double>(count) / static_cast<double>(n) == doctest::Approx(0.1).epsilon(0.08));
  CHECK_THROWS_AS(kernels::drop_classes(ctx, y, ids(ctx, 0, n), 1.5, 9, 3, 4), ValueError);
  CHECK_THROWS_AS(kernels::drop_classes(ctx, y, ids(ctx, 0, 3), 0.5, 9, 3, 4), ShapeError);
}

TEST_CASE("noise rescaling") {
  CHECK(noise_rescale(16, 16) == 1.0);
  CHECK(noise_rescale(128, 128) == 2.0);
  CHECK(noise_rescale(512, 512) == 8.0);
  CHECK(noise_rescale(64, 256) == 2.0);
}

TEST_CASE("names and errors") {
  CHECK(noise_level_law(name_of(NoiseLevel::logit_normal)) == NoiseLevel::logit_normal);
  CHECK_THROWS_AS(noise_level_law("normal"), ValueError);
  Context ctx(1);
  const Tensor x = ctx.zeros(Shape{2, 3, 4, 4}, DType::f32);
  CHECK_THROWS_AS(make_flow_batch(ctx, x, Tensor(), ids(ctx, 0, 3), {}), ShapeError);
  CHECK_THROWS_AS(make_flow_batch(ctx, ctx.zeros(Shape{4}, DType::f32), Tensor(), ids(ctx, 0, 4), {}),
                  ShapeError);
}

TEST_SUITE_END();

}  // namespace llsa::nn

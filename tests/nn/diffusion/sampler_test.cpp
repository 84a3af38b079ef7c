#include "nn/diffusion/sampler.h"

#include <doctest/doctest.h>

#include <cmath>
#include <utility>
#include <vector>

#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/optim.h"
#include "kernels/random.h"
#include "nn/diffusion/flow.h"
#include "nn/dit.h"
#include "tests/support/tensors.h"

namespace llsa::nn {

namespace {

DitConfig small() {
  DitConfig c;
  c.heads = 2;
  c.head_dim = 8;
  c.layers = 1;
  c.height = c.width = 8;
  c.classes = 3;
  c.init = InitKind::published;
  c.llsa.block = 4;
  c.llsa.topk = {2};
  c.attention = AttentionKind::llsa;
  return c;
}

}  // namespace

TEST_SUITE_BEGIN("nn/diffusion/sampler");

TEST_CASE("noise levels of Euler's steps") {
  const auto levels = euler_levels(3);
  REQUIRE(levels.size() == 4);
  CHECK(levels[0] == 1.0);
  CHECK(levels[1] == doctest::Approx(0.5005));
  CHECK(levels[2] == doctest::Approx(0.001));
  CHECK(levels[3] == 0.0);
  CHECK(euler_levels(1) == std::vector<double>{1.0, 0.0});
  CHECK_THROWS_AS(euler_levels(0), ValueError);
}

TEST_CASE("an image depends on seed and number, not on the batch") {
  Context ctx(2);
  Dit model(ctx, small(), 1);
  SampleOptions options;
  options.count = 5;
  options.steps = 3;
  options.guidance = 2.0;
  options.batch = 5;
  const Tensor together = sample(ctx, model, options);
  options.batch = 2;
  std::int64_t calls = 0;
  Callbacks callbacks;
  callbacks.on_progress = [&](std::int64_t done, std::int64_t total) {
    ++calls;
    CHECK(done == calls);
    CHECK(total == 9);
  };
  const Tensor apart = sample(ctx, model, options, callbacks);
  CHECK(calls == 9);
  CHECK(together.shape() == Shape{5, 3, 8, 8});
  CHECK(test::relative_error(ctx, apart, together) <= 1e-4);
  options.seed = 7;
  CHECK_FALSE(test::relative_error(ctx, sample(ctx, model, options), together) <= 1e-2);
}

TEST_CASE("a host that stops the work gets the images that were finished") {
  Context ctx(1);
  Dit model(ctx, small(), 1);
  SampleOptions options;
  options.count = 5;
  options.steps = 3;
  options.batch = 2;
  const Tensor all = sample(ctx, model, options);
  for (const auto& expected : {std::pair{1, 0}, {2, 0}, {3, 2}, {4, 2}, {8, 4}, {9, 5}}) {
    const int steps = expected.first, images = expected.second;
    CAPTURE(steps);
    int asked = 0;
    const Tensor some = sample(ctx, model, options, {.should_stop = [&] { return ++asked == steps; }});
    CHECK(asked == steps);
    REQUIRE(some.size(0) == images);
    if (images > 0) CHECK(test::relative_error(ctx, some, all.slice(0, 0, images)) == 0);
  }
  struct Cancelled {};
  const auto cancel = [](std::int64_t, std::int64_t) { throw Cancelled{}; };
  CHECK_THROWS_AS(sample(ctx, model, options, {.on_progress = cancel}), Cancelled);
}

TEST_CASE("a model that is a function of one's own") {
  Context ctx(1);
  // The flow that leads from any noise to a grey level for every class, and to -1 without one.
  const auto predict = [&](const Var& x, const Tensor& t, const Tensor& y) {
    const auto sigma = kernels::to_vector<double>(ctx, kernels::affine(ctx, t, 1e-3, 0.0));
    const auto classes = kernels::to_vector<std::int32_t>(ctx, y);
    std::vector<float> v = kernels::to_vector<float>(ctx, x.value());
    for (std::size_t i = 0; i < v.size(); ++i) {
      const std::size_t image = i / (v.size() / classes.size());
      const double goal = classes[image] == 2 ? -1.0 : 0.25 * classes[image];
      v[i] = static_cast<float>((v[i] - goal) / sigma[image]);
    }
    return Var(ctx, kernels::from_vector(ctx, v, x.shape()));
  };
  const Denoiser model{.predict = predict, .channels = 1, .height = 2, .width = 3, .classes = 2};
  SampleOptions options;
  options.count = 3;
  options.steps = 4;
  CHECK(sample_classes(model, options) == std::vector<std::int32_t>{0, 1, 0});
  const auto last_pixel = [&](std::int64_t image) {
    const Tensor drawn = sample(ctx, model, options);
    REQUIRE(drawn.shape() == Shape{3, 1, 2, 3});
    return ctx.item(drawn.slice(0, image, image + 1).slice(2, 1, 2).slice(3, 2, 3));
  };
  CHECK(last_pixel(0) == doctest::Approx(0.0));
  CHECK(last_pixel(1) == doctest::Approx(0.25));
  options.guidance = 3.0;  // -1 + 3 (0.25 - -1)
  CHECK(last_pixel(1) == doctest::Approx(2.75));
  options.classes = {2};
  CHECK(last_pixel(1) == doctest::Approx(-1.0));
}

TEST_CASE("the error falls with the square of Heun's steps, with the number of Euler's") {
  // Images of independent pixels N(m, d^2). Their flow is linear in x, and along it (x - (1 - sigma) m) / deviation(sigma)
  // stays the same.
  Context ctx(1);
  const double m = 0.3, d = 0.5;
  const auto predict = [&](const Var& x, const Tensor& t, const Tensor&) {
    const double sigma = 1e-3 * ctx.item(t.slice(0, 0, 1));
    const double clean = 1.0 - sigma, variance = clean * clean * d * d + sigma * sigma;
    const double slope = (sigma - clean * d * d) / variance;
    return Var(ctx, kernels::affine(ctx, x.value(), slope, -m - slope * clean * m));
  };
  const Denoiser model{.predict = predict, .channels = 1, .height = 2, .width = 2, .dtype = DType::f64};
  const Tensor start = kernels::random_normal(ctx, Shape{1, 1, 2, 2}, DType::f64, 1, 1);
  const Tensor end = kernels::affine(ctx, start, d, m);
  const auto error = [&](Sampler sampler, int steps) {
    const Tensor drawn = integrate_flow(ctx, model, start, Tensor(), {.sampler = sampler, .steps = steps});
    return test::relative_error(ctx, drawn, end);
  };
  const double order_of_euler = std::log2(error(Sampler::euler, 33) / error(Sampler::euler, 65));
  const double order_of_heun = std::log2(error(Sampler::heun, 33) / error(Sampler::heun, 65));
  CHECK(order_of_euler == doctest::Approx(1.0).epsilon(0.1));
  CHECK(order_of_heun == doctest::Approx(2.0).epsilon(0.1));
  CHECK(error(Sampler::heun, 33) < 0.02 * error(Sampler::euler, 66));
}

TEST_CASE("a network that predicts one image is followed to it, up to the bound of the last two steps") {
  Context ctx(1);
  const auto predict = [&](const Var& x, const Tensor& t, const Tensor&) {
    return flow_of_image(Var(ctx, kernels::affine(ctx, x.value(), 0.0, 0.25)), x, t);
  };
  const Denoiser model{.predict = predict, .channels = 1, .height = 2, .width = 2, .dtype = DType::f64};
  const Tensor start = kernels::random_normal(ctx, Shape{1, 1, 2, 2}, DType::f64, 1, 1);
  // sigma is 1, 0.5005, 0.001, 0: the distance shrinks by 0.5005, 0.001 / 0.5005, and in the last step by 1 - 0.001 / 0.05.
  const Tensor end = integrate_flow(ctx, model, start, Tensor(), {.steps = 3});
  const Tensor expected = kernels::affine(ctx, start, 0.001 * 0.98, 0.25 * (1.0 - 0.001 * 0.98));
  CHECK(test::relative_error(ctx, end, expected) <= 1e-6);
}

TEST_CASE("guidance within its interval, and one model pass outside of it") {
  Context ctx(1);
  // The flow 3 of the class and 1 without one.
  std::vector<std::int64_t> passes;
  const auto predict = [&](const Var& x, const Tensor&, const Tensor& y) {
    passes.push_back(x.size(0));
    std::vector<double> v = kernels::to_vector<double>(ctx, x.value());
    const auto classes = kernels::to_vector<std::int32_t>(ctx, y);
    for (std::size_t i = 0; i < v.size(); ++i) v[i] = classes[i] == 0 ? 3.0 : 1.0;
    return Var(ctx, kernels::from_vector(ctx, v, x.shape()));
  };
  const Denoiser model{
      .predict = predict, .channels = 1, .height = 1, .width = 1, .classes = 1, .dtype = DType::f64};
  const Tensor start = ctx.zeros(Shape{1, 1, 1, 1}, DType::f64), y = ctx.zeros(Shape{1}, DType::i32);
  const auto end = [&](double from, double to, Sampler sampler = Sampler::euler) {
    passes.clear();
    return ctx.item(integrate_flow(ctx, model, start, y,
                                   {.guidance = 2.0, .guided = {from, to}, .sampler = sampler, .steps = 3}));
  };
  // Steps of -0.4995, -0.4995 and -0.001 begin where 1 - sigma is 0, 0.4995 and 0.999; guided, the flow is 5.
  CHECK(end(0.0, 1.0) == doctest::Approx(-5.0));
  CHECK(passes == std::vector<std::int64_t>{2, 2, 2});
  CHECK(end(0.1, 1.0) == doctest::Approx(-3.0 * 0.4995 - 5.0 * 0.5005));
  CHECK(passes == std::vector<std::int64_t>{1, 2, 2});
  CHECK(end(0.1, 0.5) == doctest::Approx(-3.0 * 0.5005 - 5.0 * 0.4995));
  CHECK(end(0.0, 0.0) == doctest::Approx(-5.0 * 0.4995 - 3.0 * 0.5005));
  CHECK(end(0.1, 1.0, Sampler::heun) == doctest::Approx(-4.0 * 0.4995 - 5.0 * 0.5005));
  CHECK(passes == std::vector<std::int64_t>{1, 2, 2, 2, 2});

  CHECK(guidance_interval("0.1,1") == GuidanceInterval{0.1, 1.0});
  for (const char* wrong :
       {"", "0.1", "0.1,", "0.1;1", "0.5,0.1", "-0.1,1", "0,1.5", "0,1,1", "a,1", "nan,1"}) {
    CAPTURE(wrong);
    CHECK_THROWS_AS(guidance_interval(wrong), ValueError);
  }
  CHECK_THROWS_AS(sampler_kind("rk4"), ValueError);
  CHECK_THROWS_AS(sample(ctx, model, {.guided = {0.5, 0.1}}), ValueError);
}

TEST_CASE("the noise of a model that names its scale grows with the size") {
  Context ctx(1);
  const auto still = [](const Var& x, const Tensor&, const Tensor&) {
    return Var(x.context(), x.context().zeros(x.shape(), x.dtype()));
  };
  Denoiser model{.predict = still, .height = 128, .width = 128};
  SampleOptions options;
  options.steps = 1;
  const auto size_of = [&] { return ctx.item(kernels::sum_squares(ctx, sample(ctx, model, options))); };
  const double own = size_of();
  CHECK(own == doctest::Approx(4.0 * 3 * 128 * 128).epsilon(0.05));  // noise_rescale is 2
  model.noise_scale = 6;
  CHECK(size_of() == doctest::Approx(9 * own));
  options.height = options.width = 256;
  CHECK(size_of() == doctest::Approx(144.0 * 3 * 256 * 256).epsilon(0.05));
  options.noise_scale = 1;
  CHECK(size_of() == doctest::Approx(1.0 * 3 * 256 * 256).epsilon(0.05));
}

TEST_CASE("guidance 1 is the class alone, 0 is no class") {
  Context ctx(1);
  Dit model(ctx, small(), 1);
  const Tensor start = kernels::random_normal(ctx, Shape{2, 3, 8, 8}, DType::f32, 1, 1);
  const Tensor y = kernels::from_vector(ctx, std::vector<std::int32_t>{0, 2}, Shape{2});
  const Tensor none = kernels::from_vector(ctx, std::vector<std::int32_t>{3, 3}, Shape{2});
  const Tensor plain = euler(ctx, model, start, y, 1.0, 2);
  CHECK(test::relative_error(ctx, euler(ctx, model, start, y, 1.0 + 1e-9, 2), plain) <= 1e-4);
  CHECK(test::relative_error(ctx, euler(ctx, model, start, y, 0.0, 2),
                             euler(ctx, model, start, none, 1.0, 2)) <= 1e-4);
  CHECK_FALSE(test::relative_error(ctx, euler(ctx, model, start, y, 3.0, 2), plain) <= 1e-3);
}

TEST_CASE("any size that the patch divides, without classes") {
  Context ctx(1);
  DitConfig config = small();
  config.classes = 0;
  config.patch = 2;
  Dit model(ctx, config, 1);
  SampleOptions options;
  options.count = 1;
  options.steps = 2;
  options.height = 10;
  options.width = 6;
  CHECK(sample(ctx, model, options).shape() == Shape{1, 3, 10, 6});
  options.height = 9;
  CHECK_THROWS_AS(sample(ctx, model, options), ValueError);
  options.height = 0;
  options.count = 0;
  CHECK(sample(ctx, model, options).shape() == Shape{0, 3, 8, 6});
}

TEST_CASE("bad classes, counts and models are errors") {
  Context ctx(1);
  Dit model(ctx, small(), 1);
  SampleOptions options;
  options.classes = {4};
  CHECK_THROWS_AS(sample(ctx, model, options), ValueError);
  options.classes = {};
  options.batch = 0;
  CHECK_THROWS_AS(sample(ctx, model, options), ValueError);
  DitConfig config = small();
  config.out_channels = 4;
  Dit uneven(ctx, config, 1);
  CHECK_THROWS_AS(sample(ctx, uneven, SampleOptions{}), ShapeError);
  const auto still = [](const Var& x, const Tensor&, const Tensor&) { return x; };
  CHECK_THROWS_WITH_AS(sample(ctx, Denoiser{.height = 4, .width = 4}, {}),
                       doctest::Contains("Denoiser::predict"), ValueError);
  CHECK_THROWS_WITH_AS(sample(ctx, Denoiser{.predict = still}, {}), doctest::Contains("got 0 x 0"),
                       ValueError);
}

TEST_SUITE_END();

}  // namespace llsa::nn

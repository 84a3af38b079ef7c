#include "nn/diffusion/sampler.h"

#include <doctest/doctest.h>

#include "kernels/copy.h"
#include "kernels/random.h"
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
  const Tensor apart = sample(ctx, model, options, [&](std::int64_t done, std::int64_t all) {
    ++calls;
    CHECK(done == calls);
    CHECK(all == 9);
  });
  CHECK(calls == 9);
  CHECK(together.shape() == Shape{5, 3, 8, 8});
  CHECK(test::relative_error(ctx, apart, together) <= 1e-4);
  options.seed = 7;
  CHECK_FALSE(test::relative_error(ctx, sample(ctx, model, options), together) <= 1e-2);
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
  CHECK_THROWS_AS(sample(ctx, uneven, SampleOptions{}), ValueError);
}

TEST_CASE("the unit range") {
  Context ctx(1);
  const Tensor x = kernels::from_vector(ctx, std::vector<float>{-3, -1, 0, 0.5f, 1, 9}, Shape{6});
  CHECK(kernels::to_vector<float>(ctx, to_unit_range(ctx, x)) == std::vector<float>{0, 0, 0.5f, 0.75f, 1, 1});
}

TEST_SUITE_END();

}  // namespace llsa::nn

// Random tensors: keying, independence of batch and threads, moments.
#include "kernels/random.h"

#include "tests/support/kernels.h"

TEST_SUITE_BEGIN("kernels/random");

using namespace llsa;
using namespace llsa::test;

namespace {

Tensor ids(Context& ctx, const std::vector<std::int64_t>& values) {
  return kernels::from_vector(ctx, values, Shape{static_cast<std::int64_t>(values.size())});
}

}  // namespace

TEST_CASE("element j is the j-th number of the Philox stream, in every dtype and at every length") {
  Context ctx(2);
  const Philox philox{11, 22};
  for (const std::int64_t n : {1, 2, 3, 31, 33, 257, 9001}) {
    const Tensor u = kernels::random_uniform(ctx, Shape{n}, DType::f32, 11, 22);
    const Tensor g = kernels::random_normal(ctx, Shape{n}, DType::f32, 11, 22);
    bool equal = true;
    for (std::int64_t i = 0; i < n; ++i) {
      equal = equal && u.data<float>()[i] == philox.uniform(static_cast<std::uint64_t>(i));
      equal = equal && g.data<float>()[i] == philox.normal(static_cast<std::uint64_t>(i));
    }
    CHECK(equal);
    for (const DType dtype : {DType::f64, DType::bf16})
      CHECK(
          same_bits(ctx, kernels::random_normal(ctx, Shape{n}, dtype, 11, 22), kernels::cast(ctx, g, dtype)));
  }
  CHECK(kernels::random_normal(ctx, Shape{0, 3}, DType::f32, 1, 1).numel() == 0);
}

TEST_CASE("a sample's numbers depend on its id alone, not on its batch or place") {
  Context ctx(2);
  const Shape three{3, 5, 7}, one{1, 5, 7};
  const Tensor batch = kernels::random_normal_samples(ctx, three, DType::f32, 1, 2, ids(ctx, {100, 7, -1}));
  const Tensor alone = kernels::random_normal_samples(ctx, one, DType::f32, 1, 2, ids(ctx, {7}));
  CHECK(same_bits(ctx, batch.slice(0, 1, 2), alone));
  const Tensor direct = kernels::random_normal(ctx, one, DType::f32, 1, kernels::sample_stream(2, 7));
  CHECK(same_bits(ctx, alone, direct));
  const Tensor uniform = kernels::random_uniform_samples(ctx, three, DType::f32, 1, 2, ids(ctx, {7, 7, 8}));
  CHECK(same_bits(ctx, uniform.slice(0, 0, 1), uniform.slice(0, 1, 2)));
  CHECK(!same_bits(ctx, uniform.slice(0, 0, 1), uniform.slice(0, 2, 3)));
  CHECK(kernels::random_uniform_samples(ctx, Shape{0, 4}, DType::f32, 1, 2, ids(ctx, {})).numel() == 0);
}

TEST_CASE("streams of samples and purposes do not meet") {
  std::vector<std::uint64_t> streams;
  for (std::uint64_t purpose = 0; purpose < 16; ++purpose)
    for (std::int64_t id = 0; id < 4096; ++id) streams.push_back(kernels::sample_stream(purpose, id));
  std::sort(streams.begin(), streams.end());
  CHECK(std::adjacent_find(streams.begin(), streams.end()) == streams.end());
}

TEST_CASE("moments, and correlation between samples") {
  Context ctx(2);
  constexpr std::int64_t n = 200000;
  const Values u = values_of(ctx, kernels::random_uniform(ctx, Shape{n}, DType::f32, 3, 4));
  const Tensor two = kernels::random_normal_samples(ctx, Shape{2, n}, DType::f32, 3, 4, ids(ctx, {0, 1}));
  const Values g = values_of(ctx, two.select(0, 0)), h = values_of(ctx, two.select(0, 1));
  const Values ones(static_cast<std::size_t>(n), 1.0);
  CHECK(*std::min_element(u.begin(), u.end()) >= 0);
  CHECK(*std::max_element(u.begin(), u.end()) < 1);
  CHECK(std::abs(dot(u, ones) / n - 0.5) <= 0.003);
  CHECK(std::abs(dot(u, u) / n - 1.0 / 3) <= 0.003);
  CHECK(std::abs(dot(g, ones) / n) <= 0.01);
  CHECK(std::abs(dot(g, g) / n - 1) <= 0.015);
  CHECK(std::abs(dot(g, h) / n) <= 0.01);
}

TEST_CASE("equal bits for any number of threads") {
  CHECK(same_bits_for_any_threads([](Context& ctx) {
    return std::vector<Tensor>{
        kernels::random_normal(ctx, Shape{30001}, DType::f32, 1, 2),
        kernels::random_uniform_samples(ctx, Shape{5, 9001}, DType::f32, 1, 2, ids(ctx, {1, 2, 3, 4, 5}))};
  }));
}

TEST_CASE("errors name the op and both sides") {
  Context ctx(1);
  CHECK(contains(message_of<DTypeError>([&] { kernels::random_normal(ctx, Shape{2}, DType::i32, 1, 1); }),
                 {"[random_normal]", "i32"}));
  CHECK(contains(message_of<ShapeError>([&] {
                   kernels::random_normal_samples(ctx, Shape{2, 2}, DType::f32, 1, 1, ids(ctx, {1}));
                 }),
                 {"[random_normal_samples]", "sample_ids", "[2]", "[1]"}));
  CHECK(contains(message_of<DTypeError>([&] {
                   kernels::random_uniform_samples(ctx, Shape{1}, DType::f32, 1, 1,
                                                   ctx.zeros(Shape{1}, DType::i32));
                 }),
                 {"[random_uniform_samples]", "i64", "i32"}));
  CHECK(contains(message_of<ShapeError>(
                     [&] { kernels::random_uniform_samples(ctx, Shape{}, DType::f32, 1, 1, ids(ctx, {1})); }),
                 {"[random_uniform_samples]", "[b,...]"}));
}

TEST_SUITE_END();

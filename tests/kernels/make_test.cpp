// Tensors with given values.
#include "kernels/make.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "core/philox.h"
#include "tests/support/tensors.h"

using namespace llsa;

TEST_SUITE_BEGIN("kernels/make");

TEST_CASE("constants") {
  Context ctx(2);
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64, DType::i32, DType::i64, DType::u8}) {
    CHECK(zeros(ctx, {2, 3}, dtype).dtype() == dtype);
    CHECK(to_vector<double>(ctx, zeros(ctx, {2, 3}, dtype)) == std::vector<double>(6, 0.0));
    CHECK(to_vector<double>(ctx, ones(ctx, {2, 3}, dtype)) == std::vector<double>(6, 1.0));
    CHECK(to_vector<double>(ctx, full(ctx, {2, 3}, 7.0, dtype)) == std::vector<double>(6, 7.0));
  }
  CHECK(zeros(ctx, {}).dtype() == DType::f32);
  CHECK(ctx.item(full(ctx, {}, -0.5)) == -0.5);
}

TEST_CASE("counted numbers") {
  Context ctx(2);
  CHECK(to_vector<float>(ctx, arange(ctx, 0, 4)) == std::vector<float>{0, 1, 2, 3});
  CHECK(to_vector<float>(ctx, arange(ctx, 1, 2, 0.25)) == std::vector<float>{1, 1.25f, 1.5f, 1.75f});
  CHECK(to_vector<float>(ctx, arange(ctx, 3, 0, -1)) == std::vector<float>{3, 2, 1});
  CHECK(arange(ctx, 3, 0).shape() == Shape{0});
  const Tensor large = arange(ctx, 0x1p53 - 3, 0x1p53, 1, DType::i64);
  CHECK(to_vector<std::int64_t>(ctx, large).back() == (std::int64_t{1} << 53) - 1);
  CHECK(to_vector<std::int32_t>(ctx, arange(ctx, -2, 1, 1, DType::i32)) ==
        std::vector<std::int32_t>{-2, -1, 0});
  CHECK_THROWS_AS(arange(ctx, 0, 1, 0), ValueError);
  CHECK_THROWS_AS(arange(ctx, 0, NAN), ValueError);
  CHECK_THROWS_AS(arange(ctx, 0, INFINITY), ValueError);
  CHECK_THROWS_AS(arange(ctx, 0x1p60, 0x1p60 + 1024, 512, DType::i64), ValueError);
}

TEST_CASE("random numbers are those of Philox, element by element") {
  Context one(1), three(3);
  const std::int64_t n = 10'007;
  const Philox philox{5, 9};
  const auto normal = to_vector<float>(one, randn(one, {n}, 5, 9));
  const auto uniform = to_vector<float>(one, rand(one, {n}, 5, 9));
  const auto integer = to_vector<std::int64_t>(one, randint(one, {n}, -3, 4, 5, 9, DType::i64));
  bool equal = true;
  for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i)
    equal = equal && std::abs(normal[i] - philox.normal(i)) < 1e-5 && uniform[i] == philox.uniform(i) &&
            integer[i] == -3 + static_cast<std::int64_t>(philox.below(i, 7));
  CHECK(equal);
  CHECK(*std::min_element(integer.begin(), integer.end()) == -3);
  CHECK(*std::max_element(integer.begin(), integer.end()) == 3);
  CHECK(test::same_bits(one, randint(one, {n}, 0, 100, 1), randint(three, {n}, 0, 100, 1)));
  CHECK_FALSE(test::same_bits(one, randint(one, {n}, 0, 100, 1), randint(one, {n}, 0, 100, 1, 1)));
  CHECK(to_vector<std::int32_t>(one, randint(one, {3}, 8, 9, 0)) == std::vector<std::int32_t>{8, 8, 8});
  CHECK_THROWS_AS(randint(one, {1}, 0, 0, 0), ValueError);
  CHECK_THROWS_AS(randint(one, {1}, 0, std::int64_t{1} << 32, 0), ValueError);
  CHECK_THROWS_AS(randn(one, {1}, 0, 0, DType::i32), DTypeError);
}

TEST_SUITE_END();

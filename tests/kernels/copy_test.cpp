#include "kernels/copy.h"

#include <doctest/doctest.h>

#include <cstring>
#include <limits>

#include "tests/support/kernels.h"

using namespace llsa;
using namespace llsa::kernels;
using namespace llsa::test;

namespace {

constexpr DType kTypes[] = {DType::f32, DType::bf16, DType::f64, DType::i32, DType::i64, DType::u8};

/// 0, 1, 2, ... 99, 0, 1, ...: exact in every dtype.
Tensor counting(Context& ctx, const Shape& shape, DType dtype) {
  std::vector<double> values(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i % 100);
  return cast(ctx, from_vector(ctx, values, shape), dtype);
}

/// Element (i,j,k) of x read one by one.
std::vector<double> walk(const Tensor& x) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < x.size(0); ++i)
    for (std::int64_t j = 0; j < x.size(1); ++j)
      for (std::int64_t k = 0; k < x.size(2); ++k)
        values.push_back(visit_any(x.dtype(), [&]<class T>() {
          return static_cast<double>(x.data<T>()[i * x.stride(0) + j * x.stride(1) + k * x.stride(2)]);
        }));
  return values;
}

}  // namespace

TEST_SUITE_BEGIN("kernels/copy");

TEST_CASE("every view is copied element by element, in every dtype") {
  Context ctx(2);
  for (const DType dtype : kTypes) {
    CAPTURE(name_of(dtype));
    for (const auto& shape :
         {Shape{1, 1, 1}, Shape{3, 31, 33}, Shape{2, 257, 5}, Shape{0, 4, 4}, Shape{1, 300, 200}}) {
      const Tensor x = counting(ctx, shape, dtype);
      std::vector<Tensor> views = {x,
                                   x.transpose(0, 1),
                                   x.transpose(1, 2),
                                   x.permute({2, 0, 1}),
                                   x.permute({2, 1, 0}),
                                   x.slice(1, 0, shape[1], 2),
                                   x.slice(2, 0, shape[2], 3).transpose(1, 2)};
      if (shape[0] == 1) views.push_back(x.expand(Shape{4, shape[1], shape[2]}));
      for (const Tensor& view : views) {
        const Tensor copied = clone(ctx, view);
        CHECK(copied.is_contiguous());
        CHECK(walk(copied) == walk(view));
        const Tensor other =
            ctx.zeros(view.shape(), DType::f64).transpose(0, 2);  // strided destination, conversion
        copy(ctx, view.transpose(0, 2), other);
        CHECK(walk(other) == walk(view.transpose(0, 2)));
      }
    }
  }
}

TEST_CASE("contiguous and cast return what needs no work as it is") {
  Context ctx(1);
  const Tensor x = counting(ctx, Shape{3, 4}, DType::f32);
  CHECK(contiguous(ctx, x).storage() == x.storage());
  CHECK(cast(ctx, x, DType::f32).storage() == x.storage());
  CHECK(contiguous(ctx, x.transpose(0, 1)).storage() != x.storage());
  CHECK(clone(ctx, x).storage() != x.storage());
}

TEST_CASE("conversions round, truncate and saturate") {
  Context ctx(1);
  const double inf = std::numeric_limits<double>::infinity();
  const Tensor x = from_vector<double>(
      ctx, {1.9, -1.9, 300.0, -5.0, 1e20, -1e20, inf, -inf, std::nan(""), 2147483647.0}, Shape{10});
  using I32 = std::numeric_limits<std::int32_t>;
  using I64 = std::numeric_limits<std::int64_t>;
  CHECK(to_vector<std::int32_t>(ctx, x) == std::vector<std::int32_t>{1, -1, 300, -5, I32::max(), I32::min(),
                                                                     I32::max(), I32::min(), 0, I32::max()});
  CHECK(to_vector<std::int64_t>(ctx, x) == std::vector<std::int64_t>{1, -1, 300, -5, I64::max(), I64::min(),
                                                                     I64::max(), I64::min(), 0, 2147483647});
  CHECK(to_vector<std::uint8_t>(ctx, x) == std::vector<std::uint8_t>{1, 0, 255, 0, 255, 0, 255, 0, 0, 255});
  CHECK(to_vector<std::uint8_t>(ctx, from_vector<std::int64_t>(ctx, {-1, 256, 7}, Shape{3})) ==
        std::vector<std::uint8_t>{0, 255, 7});
  CHECK(to_vector<std::int32_t>(ctx, cast(ctx, x, DType::f32))[4] == I32::max());
  const auto rounded = to_vector<float>(
      ctx, cast(ctx, from_vector<float>(ctx, {1.00390625f, 1.01171875f, 3e38f, NAN}, Shape{4}), DType::bf16));
  CHECK(rounded[0] == 1.0f);       // tie to even
  CHECK(rounded[1] == 1.015625f);  // tie to even
  CHECK(rounded[2] == doctest::Approx(3e38f).epsilon(0.004));
  CHECK(std::isnan(rounded[3]));
}

TEST_CASE("copy broadcasts and writes through views only where they are") {
  Context ctx(1);
  const Tensor x = ctx.zeros(Shape{4, 6}, DType::f32);
  copy(ctx, from_vector<std::int32_t>(ctx, {1, 2}, Shape{2, 1}), x.slice(0, 1, 4, 2).slice(1, 0, 6, 3));
  CHECK(to_vector<float>(ctx, x) ==
        std::vector<float>{0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 2, 0, 0});
  CHECK_THROWS_AS(copy(ctx, ctx.zeros(Shape{5}, DType::f32), x), ShapeError);
}

TEST_CASE("fill reaches every element of a view") {
  Context ctx(2);
  for (const DType dtype : kTypes) {
    const Tensor x = ctx.zeros(Shape{50, 700}, dtype);
    fill(ctx, x.transpose(0, 1).slice(0, 1, 700, 2), 3.0);
    const auto values = to_vector<double>(ctx, x);
    for (std::size_t i = 0; i < values.size(); ++i) REQUIRE(values[i] == (i % 2 == 1 ? 3.0 : 0.0));
  }
}

TEST_CASE("concat joins along any axis") {
  Context ctx(1);
  for (const DType dtype : kTypes) {
    const Tensor x = counting(ctx, Shape{3, 5, 4}, dtype);
    for (int axis = -3; axis < 3; ++axis) {
      const Tensor joined =
          concat(ctx, {x.slice(axis, 0, 1), x.slice(axis, 1, 1), x.slice(axis, 1, x.size(axis))}, axis);
      CHECK(same_bits(ctx, joined, x));
    }
  }
  const Tensor x = ctx.zeros(Shape{2, 3}, DType::f32);
  CHECK_THROWS_AS(concat(ctx, {}, 0), ValueError);
  CHECK_THROWS_WITH_AS(concat(ctx, {x, ctx.zeros(Shape{2, 4}, DType::f32)}, 0),
                       "[concat] expected [2,3] but for axis 0, got [2,4]", ShapeError);
  CHECK_THROWS_AS(concat(ctx, {x, cast(ctx, x, DType::f64)}, 0), DTypeError);
}

TEST_CASE("vectors and tensors") {
  Context ctx(1);
  const Tensor x = from_vector<std::int64_t>(ctx, {1, 2, 3, 4, 5, 6}, Shape{2, 3});
  CHECK(to_vector<float>(ctx, x.transpose(0, 1)) == std::vector<float>{1, 4, 2, 5, 3, 6});
  CHECK(from_vector<float>(ctx, {}, Shape{0, 3}).numel() == 0);
  CHECK_THROWS_WITH_AS(from_vector<float>(ctx, {1.0f}, Shape{2}),
                       "[from_vector] shape [2] has 2 elements, got 1", ShapeError);
}

TEST_SUITE_END();

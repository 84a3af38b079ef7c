#include "kernels/reduce.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/support/kernels.h"

using namespace llsa;
using namespace llsa::kernels;
using namespace llsa::test;

namespace {

/// Sum or maximum over axes by walking every element in f64.
Tensor naive(Context& ctx, const Tensor& x, const std::vector<int>& axes, bool maximum) {
  std::vector<std::int64_t> extents = x.shape().extents();
  for (const int axis : axes) extents[static_cast<std::size_t>(axis)] = 1;
  const Shape shape(extents);
  const std::vector<std::int64_t> in = x.shape().contiguous_strides(), out = shape.contiguous_strides();
  const auto values = to_vector<double>(ctx, x);
  std::vector<double> result(static_cast<std::size_t>(shape.numel()), maximum ? -1e300 : 0.0);
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::int64_t rest = static_cast<std::int64_t>(i), at = 0;
    for (std::size_t axis = 0; axis < extents.size(); ++axis) {
      if (extents[axis] != 1) at += rest / in[axis] * out[axis];
      rest %= in[axis];
    }
    double& r = result[static_cast<std::size_t>(at)];
    r = maximum ? std::max(r, values[i]) : r + values[i];
  }
  return from_vector(ctx, result, shape);
}

double rounding_limit(DType dtype) { return dtype == DType::f64 ? 1e-13 : dtype == DType::f32 ? 2e-6 : 8e-3; }

}  // namespace

TEST_SUITE_BEGIN("kernels/reduce");

TEST_CASE("every choice of axes equals plain loops") {
  Context ctx(2);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    const Tensor base = random_tensor(ctx, Shape{3, 33, 1, 31}, dtype, 1);
    for (int mask = 0; mask < 16; ++mask) {
      std::vector<int> axes;
      for (int axis = 0; axis < 4; ++axis)
        if (mask >> axis & 1) axes.push_back(axis);
      if (axes.empty()) continue;
      CAPTURE(mask);
      for (const Tensor& x : {base, transposed_in_memory(ctx, base)}) {
        const double limit = rounding_limit(dtype);
        const Tensor expected = naive(ctx, x, axes, false);
        const Tensor kept = sum(ctx, x, axes, true);
        CHECK(relative_error(ctx, kept, expected) <= limit);
        CHECK(sum(ctx, x, axes).rank() == 4 - static_cast<int>(axes.size()));
        CHECK(relative_error(ctx, max(ctx, x, axes, true), naive(ctx, x, axes, true)) <= 0.0);
        const double count = static_cast<double>(x.numel() / expected.numel());
        auto means = to_vector<double>(ctx, expected);
        for (double& value : means) value /= count;
        CHECK(relative_error(ctx, mean(ctx, x, axes, true), from_vector(ctx, means, expected.shape())) <=
              limit);
      }
    }
  }
}

TEST_CASE("long sums are accurate") {
  Context ctx(2);
  for (const std::int64_t n : {1, 31, 4095, 4096, 4097, 100003, 3000001}) {
    const Tensor x = ctx.empty(Shape{n}, DType::f32);
    fill(ctx, x, 0.1);
    const double expected = static_cast<double>(0.1f) * static_cast<double>(n);
    CAPTURE(n);
    CHECK(std::abs(ctx.item(sum(ctx, x, {})) - expected) <= 1e-6 * expected);
    CHECK(std::abs(ctx.item(mean(ctx, x, {})) - static_cast<double>(0.1f)) <= 1e-7);
    const Tensor columns = sum(ctx, x.reshape({n, 1}).expand(Shape{n, 2}), {0});
    CHECK(std::abs(to_vector<double>(ctx, columns)[1] - expected) <= 1e-6 * expected);
  }
}

TEST_CASE("empty axes") {
  Context ctx(1);
  const Tensor x = ctx.zeros(Shape{3, 0}, DType::f32);
  CHECK(to_vector<float>(ctx, sum(ctx, x, {1})) == std::vector<float>(3, 0.0f));
  CHECK(std::isnan(to_vector<float>(ctx, mean(ctx, x, {1}))[2]));
  CHECK(sum(ctx, x, {0}).shape() == Shape{0});
  CHECK(ctx.item(sum(ctx, x, {})) == 0.0);
  CHECK_THROWS_WITH_AS(max(ctx, x, {1}), "[max] has no elements to choose from in [3,0]", ShapeError);
  CHECK(max(ctx, x, {0}).shape() == Shape{0});
}

TEST_CASE("scalars and no reduction at all") {
  Context ctx(1);
  const Tensor x = from_vector<float>(ctx, {2.5f}, Shape{});
  CHECK(ctx.item(sum(ctx, x, {})) == 2.5);
  CHECK(ctx.item(max(ctx, x, {})) == 2.5);
  const Tensor y = random_tensor(ctx, Shape{5, 1}, DType::bf16, 1);
  CHECK(same_bits(ctx, sum(ctx, y, {1}, true), y));
}

TEST_CASE("NaN stays in its own results") {
  Context ctx(1);
  const Tensor x = random_tensor(ctx, Shape{40, 50}, DType::f32, 1);
  fill(ctx, x.slice(0, 7, 8).slice(1, 9, 10), std::nan(""));
  const auto rows = to_vector<float>(ctx, max(ctx, x, {1})),
             columns = to_vector<float>(ctx, max(ctx, x, {0}));
  const auto sums = to_vector<float>(ctx, sum(ctx, x, {1}));
  for (std::size_t i = 0; i < 40; ++i) CHECK(std::isnan(rows[i]) == (i == 7));
  for (std::size_t i = 0; i < 50; ++i) CHECK(std::isnan(columns[i]) == (i == 9));
  for (std::size_t i = 0; i < 40; ++i) CHECK(std::isnan(sums[i]) == (i == 7));
  fill(ctx, x, -std::numeric_limits<double>::infinity());
  CHECK(ctx.item(max(ctx, x, {})) == -std::numeric_limits<double>::infinity());
}

TEST_CASE("sum_to is the adjoint of broadcasting") {
  Context ctx(1);
  const Tensor x = random_tensor(ctx, Shape{2, 3, 4}, DType::f64, 1);
  CHECK(relative_error(ctx, sum_to(ctx, x, Shape{3, 1}), sum(ctx, x, {0, 2}).reshape({3, 1})) <= 1e-15);
  CHECK(relative_error(ctx, sum_to(ctx, x, Shape{}), sum(ctx, x, {})) <= 1e-15);
  CHECK(sum_to(ctx, x, Shape{2, 3, 4}).storage() == x.storage());
  CHECK(sum_to(ctx, x.reshape({1, 2, 12}), Shape{2, 12}).shape() == Shape{2, 12});
  CHECK(to_vector<double>(ctx, sum_to(ctx, ctx.zeros(Shape{0, 2}, DType::f64), Shape{1, 2})) ==
        std::vector<double>(2, 0.0));
  CHECK_THROWS_WITH_AS(sum_to(ctx, x, Shape{2, 4}), "[sum_to] [2,4] does not broadcast to [2,3,4]",
                       ShapeError);
}

TEST_CASE("any number of threads gives the same bits") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    CHECK(same_bits_for_any_threads([&](Context& ctx) {
      const Tensor x = random_tensor(ctx, Shape{37, 211, 65}, dtype, 1);
      return std::vector<Tensor>{sum(ctx, x, {}),  sum(ctx, x, {0, 1}), sum(ctx, x, {0, 2}),
                                 sum(ctx, x, {1}), mean(ctx, x, {2}),   max(ctx, x, {})};
    }));
  }
}

TEST_CASE("arguments that do not fit are named") {
  Context ctx(1);
  const Tensor x = ctx.zeros(Shape{2, 3}, DType::f32);
  CHECK_THROWS_AS(sum(ctx, x, {2}), ShapeError);
  CHECK_THROWS_WITH_AS(sum(ctx, x, {1, -1}), "[sum] axis -1 of [2,3] is named twice", ShapeError);
  CHECK_THROWS_WITH_AS(sum(ctx, cast(ctx, x, DType::i32), {0}),
                       "[sum] expected x of dtype f32, bf16 or f64, got i32", DTypeError);
}

TEST_CASE("argmax names the first largest element of any axis, and NaN before all numbers") {
  Context ctx(2);
  const float nan = std::nanf(""), inf = std::numeric_limits<float>::infinity();
  const Tensor rows = from_vector<float>(
      ctx, {1, 3, 3, 2, -inf, -inf, -inf, -inf, 5, nan, 7, nan, -0.0f, 0, inf, inf}, Shape{4, 4});
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    const Tensor x = cast(ctx, rows, dtype);
    CHECK(argmax(ctx, x, 1).dtype() == DType::i32);
    CHECK(to_vector<std::int32_t>(ctx, argmax(ctx, x, -1)) == std::vector<std::int32_t>{1, 0, 1, 2});
    CHECK(to_vector<std::int32_t>(ctx, argmax(ctx, x, 0)) == std::vector<std::int32_t>{2, 2, 3, 2});
    CHECK(argmax(ctx, x, 0, true).shape() == Shape{1, 4});
    const Tensor large = random_tensor(ctx, Shape{3, 700, 65}, dtype, 1);
    for (int axis = 0; axis < 3; ++axis) {
      const Tensor line = large.transpose(axis, 2), best = argmax(ctx, line, 2);
      const auto values = to_vector<double>(ctx, line);
      const auto found = to_vector<std::int32_t>(ctx, best);
      const auto length = static_cast<std::ptrdiff_t>(line.size(2));
      auto first = values.begin();
      for (std::size_t i = 0; i < found.size(); ++i, first += length)
        CHECK(found[i] == std::max_element(first, first + length) - first);
      const Tensor in_place = argmax(ctx, large, axis);
      CHECK(to_vector<std::int32_t>(ctx, axis == 0 ? in_place.transpose(0, 1) : in_place) == found);
    }
  }
  CHECK(argmax(ctx, ctx.zeros(Shape{0, 3}, DType::f32), 1).shape() == Shape{0});
  CHECK_THROWS_AS(argmax(ctx, ctx.zeros(Shape{3, 0}, DType::f32), 1), ShapeError);
  CHECK_THROWS_AS(argmax(ctx, rows, 2), ShapeError);
  CHECK_THROWS_AS(argmax(ctx, cast(ctx, rows, DType::i32), 1), DTypeError);
}

TEST_SUITE_END();

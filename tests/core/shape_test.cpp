// Extents, axes, broadcasting, dtypes, and what overflows.
#include "core/shape.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "core/context.h"
#include "core/dtype.h"

using namespace llsa;

TEST_SUITE_BEGIN("core/shape");

TEST_CASE("extents, elements, axes, strides, text") {
  const Shape shape{2, 3, 4};
  CHECK(shape.rank() == 3);
  CHECK(shape.numel() == 24);
  CHECK(shape[-1] == 4);
  CHECK(shape.str() == "[2,3,4]");
  CHECK(cat(Shape{}) == "[]");
  CHECK(Shape{}.numel() == 1);
  CHECK(Shape{3, 0}.numel() == 0);
  CHECK(shape.contiguous_strides() == std::vector<std::int64_t>{12, 4, 1});
  CHECK(shape == Shape(std::vector<std::int64_t>{2, 3, 4}));
  CHECK_THROWS_AS(shape[3], ShapeError);
  CHECK_THROWS_AS(shape.normalize_axis(-4), ShapeError);
  CHECK_THROWS_AS(Shape{}[0], ShapeError);
}

TEST_CASE("negative and overflowing extents are errors") {
  CHECK_THROWS_AS(Shape({2, -1}), ShapeError);
  CHECK_THROWS_AS(Shape({std::int64_t{1} << 31, std::int64_t{1} << 31}), ShapeError);
  CHECK_THROWS_AS(Shape({std::int64_t{1} << 62, std::int64_t{1} << 62, 4}), ShapeError);
  CHECK_THROWS_AS(Shape({0, std::numeric_limits<std::int64_t>::max(), 2}), ShapeError);
  CHECK(Shape{std::int64_t{1} << 60}.numel() == std::int64_t{1} << 60);
}

TEST_CASE("broadcasting") {
  CHECK(broadcast_shapes({2, 1, 4}, {3, 1}) == Shape{2, 3, 4});
  CHECK(broadcast_shapes({}, {5}) == Shape{5});
  CHECK(broadcast_shapes({0}, {1}) == Shape{0});
  CHECK_THROWS_AS(broadcast_shapes({2}, {3}), ShapeError);
  CHECK_THROWS_AS(broadcast_shapes({0}, {2}), ShapeError);
}

TEST_CASE("dtype names go both ways") {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64, DType::i32, DType::i64, DType::u8}) {
    CHECK(dtype_from_name(name_of(dtype)) == dtype);
    CHECK(visit_any(dtype, []<class T>() { return dtype_of<T>::value; }) == dtype);
    CHECK(visit_any(dtype, []<class T>() { return sizeof(T); }) == size_of(dtype));
  }
  CHECK_THROWS_AS(dtype_from_name("f16"), ValueError);
  CHECK_THROWS_AS(visit_floating(DType::i32, "here", []<class T>() { return 0; }), DTypeError);
}

TEST_CASE("bf16 rounds to nearest even and keeps the special values") {
  CHECK(static_cast<float>(bf16(1.0f)) == 1.0f);
  CHECK(static_cast<float>(bf16(1.0f + 0x1p-8f)) == 1.0f);              // half: down to even
  CHECK(static_cast<float>(bf16(1.0f + 0x1.8p-7f)) == 1.0f + 0x1p-6f);  // half: up to even
  CHECK(static_cast<float>(bf16(1.0f + 0x1.1p-8f)) == 1.0f + 0x1p-7f);  // above half
  CHECK(std::isinf(static_cast<float>(bf16(std::numeric_limits<float>::max()))));
  CHECK(std::isinf(static_cast<float>(bf16(std::numeric_limits<float>::infinity()))));
  CHECK(std::isnan(static_cast<float>(bf16(std::numeric_limits<float>::quiet_NaN()))));
  CHECK(std::isnan(static_cast<float>(bf16(-std::numeric_limits<float>::quiet_NaN()))));
  CHECK(std::signbit(static_cast<float>(bf16(-0.0f))));
}

TEST_CASE("a context allocates, zeroes, reads one element and counts that") {
  Context context(2);
  const Tensor zeros = context.zeros({1000, 1000}, DType::f32);
  float sum = 0;
  for (std::int64_t i = 0; i < zeros.numel(); ++i) sum += std::abs(zeros.data<float>()[i]);
  CHECK(sum == 0.0f);
  CHECK(context.zeros({0}, DType::f32).numel() == 0);
  CHECK(context.empty_like(zeros).shape() == zeros.shape());
  CHECK(context.synchronizations() == 0);
  const Tensor one = context.empty({1, 1}, DType::bf16);
  *one.data<bf16>() = bf16(2.5f);
  CHECK(context.item(one) == 2.5);
  CHECK(context.synchronizations() == 1);
  CHECK_THROWS_AS(context.item(zeros), ShapeError);
  CHECK(context.device().str() == "cpu");
  CHECK(Device{DeviceType::cuda, 1}.str() == "cuda:1");
  Context small(1, 1 << 20);
  CHECK_THROWS_AS(small.empty({1 << 20}, DType::f32), OutOfMemoryError);
}

TEST_SUITE_END();

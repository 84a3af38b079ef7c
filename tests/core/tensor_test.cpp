// Views share memory and address the right elements; everything outside is an error.
#include "core/tensor.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <numeric>

#include "core/context.h"

using namespace llsa;

namespace {

Tensor counting(Context& context, const Shape& shape) {
  Tensor tensor = context.empty(shape, DType::i64);
  std::iota(tensor.data<std::int64_t>(), tensor.data<std::int64_t>() + tensor.numel(), 0);
  return tensor;
}

/// Elements in row-major order.
std::vector<std::int64_t> elements(const Tensor& tensor) {
  std::vector<std::int64_t> out;
  std::vector<std::int64_t> at(static_cast<std::size_t>(tensor.rank()), 0);
  for (std::int64_t n = 0; n < tensor.numel(); ++n) {
    std::int64_t offset = 0;
    for (int axis = 0; axis < tensor.rank(); ++axis)
      offset += at[static_cast<std::size_t>(axis)] * tensor.stride(axis);
    out.push_back(tensor.data<std::int64_t>()[offset]);
    for (int axis = tensor.rank() - 1; axis >= 0; --axis) {
      if (++at[static_cast<std::size_t>(axis)] < tensor.size(axis)) break;
      at[static_cast<std::size_t>(axis)] = 0;
    }
  }
  return out;
}

using Values = std::vector<std::int64_t>;

}  // namespace

TEST_SUITE_BEGIN("core/tensor");

TEST_CASE("an undefined tensor throws on use") {
  const Tensor none;
  CHECK_FALSE(none.defined());
  CHECK_THROWS_AS(none.shape(), Error);
  CHECK_THROWS_AS(none.data<float>(), Error);
  CHECK_THROWS_AS(none.reshape(Shape{1}), Error);
  CHECK_THROWS_AS(none.is_contiguous(), Error);
}

TEST_CASE("data() asks for the right type") {
  Context context(1);
  const Tensor x = context.zeros({2}, DType::f32);
  CHECK(x.data<float>()[1] == 0.0f);
  CHECK_THROWS_AS(x.data<double>(), DTypeError);
}

TEST_CASE("transpose, permute, slice, select, unsqueeze, squeeze") {
  Context context(1);
  const Tensor x = counting(context, {2, 3, 4});
  CHECK(x.is_contiguous());
  CHECK(elements(x.select(0, 1).select(-1, 2)) == Values{14, 18, 22});
  CHECK(elements(x.slice(2, 1, 4, 2).select(0, 0)) == Values{1, 3, 5, 7, 9, 11});
  CHECK(elements(x.select(0, 0).transpose(0, 1)) == Values{0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11});
  CHECK(x.permute({2, 0, 1}).shape() == Shape{4, 2, 3});
  CHECK(elements(x.permute({-1, 0, 1}).select(0, 3)) == Values{3, 7, 11, 15, 19, 23});
  CHECK(x.unsqueeze(-1).shape() == Shape{2, 3, 4, 1});
  CHECK(x.unsqueeze(0).squeeze(0).shape() == x.shape());
  CHECK(x.unsqueeze(1).is_contiguous());
  CHECK_FALSE(x.transpose(0, 1).is_contiguous());
  CHECK(x.slice(1, 2, 2).numel() == 0);
  CHECK(x.slice(1, 0, 3, INT64_MAX).shape() == Shape{2, 1, 4});
  x.slice(0, 1, 2).data<std::int64_t>()[0] = -7;  // a view shares memory
  CHECK(x.data<std::int64_t>()[12] == -7);
}

TEST_CASE("expand broadcasts with stride zero") {
  Context context(1);
  const Tensor x = counting(context, {3, 1});
  CHECK(elements(x.expand({2, 3, 2})) == Values{0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2});
  CHECK_THROWS_AS(x.expand({3}), ShapeError);
  CHECK_THROWS_AS(x.expand({4, 2}), ShapeError);
}

TEST_CASE("reshape views where the strides allow it") {
  Context context(1);
  const Tensor x = counting(context, {2, 3, 4});
  CHECK(x.reshape({6, -1}).shape() == Shape{6, 4});
  CHECK(x.reshape({24}).stride(0) == 1);
  CHECK(x.reshape({1, 2, 1, 12, 1}).is_contiguous());
  CHECK(elements(x.slice(2, 0, 2).reshape({6, 2})) == elements(x.slice(2, 0, 2)));
  CHECK(elements(x.slice(0, 1, 2).transpose(1, 2).reshape({2, 2, 3})) ==
        elements(x.slice(0, 1, 2).transpose(1, 2)));
  CHECK(elements(counting(context, {4, 6}).transpose(0, 1).reshape({3, 2, 4})) ==
        elements(counting(context, {4, 6}).transpose(0, 1)));
  CHECK(x.select(0, 0).select(0, 0).select(0, 0).reshape({1, 1}).numel() == 1);
  CHECK(counting(context, {3}).expand({5, 3}).reshape({5, 3, 1}).stride(0) == 0);
  CHECK(context.empty({0, 3}, DType::f32).reshape({3, 0}).numel() == 0);
  CHECK_THROWS_AS(x.slice(2, 0, 2).reshape({12}), ShapeError);
  CHECK_THROWS_AS(x.transpose(0, 1).reshape({24}), ShapeError);
  CHECK_THROWS_AS(x.reshape({5, -1}), ShapeError);
  CHECK_THROWS_AS(x.reshape({-1, -1}), ShapeError);
  CHECK_THROWS_AS(x.reshape({25}), ShapeError);
  CHECK_THROWS_AS(x.reshape({-2, 12}), ShapeError);
  CHECK_THROWS_AS(context.empty({0, 3}, DType::f32).reshape({0, -1}), ShapeError);
}

TEST_CASE("axes and ranges outside the tensor are errors") {
  Context context(1);
  const Tensor x = counting(context, {2, 3});
  CHECK_THROWS_AS(x.transpose(0, 2), ShapeError);
  CHECK_THROWS_AS(x.permute({0}), ShapeError);
  CHECK_THROWS_AS(x.permute({0, 0}), ShapeError);
  CHECK_THROWS_AS(x.permute({0, 2}), ShapeError);
  CHECK_THROWS_AS(x.slice(0, -1, 1), ShapeError);
  CHECK_THROWS_AS(x.slice(0, 2, 1), ShapeError);
  CHECK_THROWS_AS(x.slice(0, 0, 3), ShapeError);
  CHECK_THROWS_AS(x.slice(0, 0, 2, 0), ShapeError);
  CHECK_THROWS_AS(x.select(1, 3), ShapeError);
  CHECK_THROWS_AS(x.select(1, -1), ShapeError);
  CHECK_THROWS_AS(x.squeeze(0), ShapeError);
  CHECK_THROWS_AS(x.unsqueeze(3), ShapeError);
  CHECK_THROWS_AS(x.unsqueeze(-4), ShapeError);
}

TEST_CASE("views of a tensor without elements stay inside") {
  Context context(1);
  const Tensor x = context.empty({3, 0, 2}, DType::f32);
  CHECK(x.select(0, 2).numel() == 0);
  CHECK(x.select(0, 2).data<float>() == nullptr);
  CHECK(x.slice(2, 1, 2).raw() == nullptr);
  CHECK(x.is_contiguous());
}

TEST_CASE("a tensor over a storage has to fit into it") {
  int released = 0;
  alignas(8) std::byte bytes[32];
  {
    auto storage = std::make_shared<Storage>(bytes, sizeof bytes, Device{}, [&] { ++released; });
    CHECK(Tensor::over(storage, {2, 2}, DType::f32, 4).raw() == bytes + 16);
    CHECK_THROWS_AS(Tensor::over(storage, {5}, DType::f32, 4), ShapeError);
    CHECK_THROWS_AS(Tensor::over(storage, {5}, DType::f64), ShapeError);
    CHECK_THROWS_AS(Tensor::over(storage, {1}, DType::f32, -1), ShapeError);
    CHECK_THROWS_AS(Tensor::over(storage, {}, DType::f32, 9), ShapeError);
    auto odd = std::make_shared<Storage>(bytes + 1, 31, Device{}, nullptr);
    CHECK_THROWS_AS(Tensor::over(odd, {1}, DType::f32), Error);
    CHECK(Tensor::over(odd, {31}, DType::u8).numel() == 31);
  }
  CHECK(released == 1);
  CHECK_THROWS_AS(Tensor::over(nullptr, {1}, DType::f32), Error);
  CHECK_THROWS_AS(Tensor::empty({1}, DType::f32, nullptr), Error);
}

TEST_SUITE_END();

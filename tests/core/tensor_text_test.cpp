// Tensors as text, and tensors over memory of the caller.
#include <doctest/doctest.h>

#include <array>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "core/context.h"
#include "core/tensor.h"

using namespace llsa;

namespace {

std::string text_of(const Tensor& x) {
  std::ostringstream out;
  out << x;
  return out.str();
}

template <class T, std::size_t N>
Tensor over(std::array<T, N>& values, const Shape& shape) {
  return Tensor::over(values.data(), shape, dtype_of<T>::value);
}

}  // namespace

TEST_SUITE_BEGIN("core/tensor_text");

TEST_CASE("elements of every dtype") {
  std::array<float, 6> f32 = {1,
                              -2.5f,
                              1e10f,
                              1.0f / 3,
                              std::numeric_limits<float>::quiet_NaN(),
                              -std::numeric_limits<float>::infinity()};
  CHECK(text_of(over(f32, {2, 3})) == "f32 [2,3] on cpu: [[1, -2.5, 1e+10], [0.3333, nan, -inf]]");
  std::array<bf16, 2> half = {bf16(1.0f), bf16(3.140625f)};
  CHECK(text_of(over(half, {2})) == "bf16 [2] on cpu: [1, 3.141]");
  std::array<double, 1> f64 = {-0.125};
  CHECK(text_of(over(f64, {})) == "f64 [] on cpu: -0.125");
  std::array<std::int64_t, 1> i64 = {std::int64_t{-1} << 62};
  CHECK(text_of(over(i64, {1, 1})) == "i64 [1,1] on cpu: [[-4611686018427387904]]");
  std::array<std::int32_t, 2> i32 = {7, -7};
  CHECK(text_of(over(i32, {2})) == "i32 [2] on cpu: [7, -7]");
  std::array<std::uint8_t, 2> u8 = {0, 255};
  CHECK(text_of(over(u8, {2})) == "u8 [2] on cpu: [0, 255]");
}

TEST_CASE("long axes, views, nothing at all") {
  std::array<std::int32_t, 64> values{};
  for (int i = 0; i < 64; ++i) values[static_cast<std::size_t>(i)] = i;
  CHECK(text_of(over(values, {64})) == "i32 [64] on cpu: [0, 1, 2, ..., 61, 62, 63]");
  CHECK(text_of(over(values, {6, 7}).select(0, 1)) == "i32 [7] on cpu: [7, 8, 9, ..., 11, 12, 13]");
  CHECK(text_of(over(values, {6}).slice(0, 1, 6, 2)) == "i32 [3] on cpu: [1, 3, 5]");
  CHECK(text_of(over(values, {2, 2}).transpose(0, 1)) == "i32 [2,2] on cpu: [[0, 2], [1, 3]]");
  CHECK(text_of(over(values, {1}).expand({3})) == "i32 [3] on cpu: [0, 0, 0]");
  CHECK(text_of(over(values, {4, 4, 4})) ==
        "i32 [4,4,4] on cpu: [[[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]], ..., "
        "[[48, 49, 50, 51], [52, 53, 54, 55], [56, 57, 58, 59], [60, 61, 62, 63]]]");
  CHECK(text_of(over(values, {0})) == "i32 [0] on cpu: []");
  CHECK(text_of(over(values, {2, 0})) == "i32 [2,0] on cpu: [[], []]");
  CHECK(text_of(Tensor()) == "undefined");
}

TEST_CASE("memory of the caller is used as it is, and given back once") {
  std::vector<float> memory = {1, 2, 3, 4, 5, 6};
  int released = 0;
  const auto release = [&] { ++released; };
  {
    const Tensor x = Tensor::over(memory.data(), {2, 3}, DType::f32, Device::cpu(), release);
    CHECK(x.data<float>() == memory.data());
    x.data<float>()[5] = 60;
    CHECK(memory[5] == 60);
    Tensor view = x.select(0, 1);
    CHECK(view.data<float>() == memory.data() + 3);
    Context ctx(2);
    float host[3];
    ctx.download(view, host);
    CHECK(host[2] == 60);
    CHECK(ctx.allocator()->stats().allocations == 0);
    CHECK(released == 0);
  }
  CHECK(released == 1);

  CHECK_THROWS_AS(Tensor::over(nullptr, {1}, DType::f32, Device::cpu(), release), ValueError);
  CHECK(released == 2);
  CHECK_THROWS_AS(
      Tensor::over(reinterpret_cast<std::byte*>(memory.data()) + 1, {1}, DType::f32, Device::cpu(), release),
      Error);
  CHECK(released == 3);
  CHECK(Tensor::over(nullptr, {0, 3}, DType::f32).numel() == 0);
}

TEST_SUITE_END();

#include "tests/kernels/cuda/demo.h"

#include <doctest/doctest.h>

#include <vector>

#include "tests/kernels/cuda/device_buffer.h"
#include "tests/kernels/cuda/orders.h"

using namespace llsa;
using namespace llsa::test;

TEST_SUITE_BEGIN("kernels/cuda/demo");

TEST_CASE("sum") {
  if (!has_device()) return;
  for (const int n : {1, 31, 33, 5000}) {
    CAPTURE(n);
    std::vector<float> x(static_cast<std::size_t>(n));
    double expected = 0;
    for (std::size_t i = 0; i < x.size(); ++i) expected += x[i] = static_cast<float>(i % 7) - 2.75f;
    DeviceBuffer<float> dx(x), out(1), partials(24);
    DeviceBuffer<unsigned> counter(1, 0);
    for_all_orders([&] {
      for (int repeat = 0; repeat < 2; ++repeat)
        sum(dx.data(), n, partials.data(), counter.data(), out.data(), 24, nullptr);
      return out.get();
    });
    CHECK(out.get()[0] == expected);  // multiples of 1/4: exact
  }
}

TEST_CASE("transpose") {
  if (!has_device()) return;
  const int rows = 70, columns = 45;
  std::vector<float> x(rows * columns);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
  DeviceBuffer<float> in(x), out(x.size());
  const auto y = for_all_orders([&] {
    transpose(in.data(), out.data(), rows, columns, nullptr);
    return out.get();
  });
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < columns; ++c) REQUIRE(y[c * rows + r] == x[r * columns + c]);
}

TEST_CASE("gemm") {
  if (!has_device()) return;
  struct Size {
    std::size_t m, n, k;
  };
  for (const Size& size : {Size{64, 64, 32}, Size{65, 40, 72}, Size{130, 70, 104}}) {
    const std::size_t m = size.m, n = size.n, k = size.k;
    CAPTURE(m);
    std::vector<float> a(m * k), b(n * k);
    for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(i * 37 % 19) - 9;
    for (std::size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(i * 53 % 23) - 11;
    const auto to_bf16 = [](const std::vector<float>& v) {
      return std::vector<__nv_bfloat16>(v.begin(), v.end());
    };
    DeviceBuffer<__nv_bfloat16> da(to_bf16(a)), db(to_bf16(b));
    DeviceBuffer<float> dc(m * n);
    const auto c = for_all_orders([&] {
      gemm(da.data(), db.data(), dc.data(), static_cast<int>(m), static_cast<int>(n), static_cast<int>(k),
           nullptr);
      return dc.get();
    });
    for (std::size_t i = 0; i < m; ++i)
      for (std::size_t j = 0; j < n; ++j) {
        float expected = 0;  // small integers: exact
        for (std::size_t l = 0; l < k; ++l) expected += a[i * k + l] * b[j * k + l];
        REQUIRE(c[i * n + j] == expected);
      }
  }
}

TEST_SUITE_END();

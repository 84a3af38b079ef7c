// What every intrinsic and PTX wrapper has to give, by plain loops.
#include "tests/kernels/cuda/conformance.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "tests/kernels/cuda/device_buffer.h"
#include "tests/kernels/cuda/orders.h"

using namespace llsa;
using namespace llsa::test;

namespace {

std::uint32_t bits_of(__nv_bfloat16 x) { return std::bit_cast<std::uint16_t>(x); }

std::vector<__nv_bfloat16> bf16_numbers(std::size_t n, int modulus) {
  std::vector<__nv_bfloat16> v(n);
  for (std::size_t i = 0; i < n; ++i)
    v[i] = __float2bfloat16(static_cast<float>(static_cast<int>(i * 37) % modulus - modulus / 2));
  return v;
}

}  // namespace

TEST_SUITE_BEGIN("kernels/cuda/conformance");

TEST_CASE("shuffles") {
  if (!has_device()) return;
  DeviceBuffer<int> out(12 * 32);
  const auto got = for_all_orders([&] {
    run_shuffles(out.data());
    return out.get();
  });
  for (int lane = 0; lane < 32; ++lane) {
    CAPTURE(lane);
    const int eighth = lane & ~7;  // first lane of the part of width 8
    const int expected[12] = {7,
                              31 - lane,
                              eighth + 3,
                              3,
                              lane ^ 5,
                              (lane ^ 9) < eighth + 8 ? lane ^ 9 : lane,
                              lane ^ 3,
                              lane >= 3 ? lane - 3 : lane,
                              lane % 8 >= 3 ? lane - 3 : lane,
                              lane + 3 < 32 ? lane + 3 : lane,
                              lane % 8 + 3 < 8 ? lane + 3 : lane,
                              lane < 16 ? lane ^ 1 : 20};
    for (int row = 0; row < 12; ++row) {
      CAPTURE(row);
      CHECK(got[static_cast<std::size_t>(row * 32 + lane)] == 10 * expected[row]);
    }
  }
}

TEST_CASE("shuffles of every type") {
  if (!has_device()) return;
  DeviceBuffer<double> out(6 * 32);
  run_typed_shuffles(out.data());
  const auto got = out.get();
  for (int lane = 0; lane < 32; ++lane) {
    CAPTURE(lane);
    const auto at = [&](int row) { return got[static_cast<std::size_t>(row * 32 + lane)]; };
    CHECK(at(0) == 1.5 * (lane ^ 1) + 0.25);
    CHECK(at(1) == 1.5 * (lane ^ 1) + 0.25);
    CHECK(at(2) == (lane ^ 1));
    CHECK(at(3) == std::exp2(40) + (lane + 2 < 32 ? lane + 2 : lane));
    CHECK(at(4) == 4e9 + (lane >= 1 ? lane - 1 : 0));
    CHECK(at(5) == 9000.0 - 9.0);
  }
}

TEST_CASE("votes and reductions") {
  if (!has_device()) return;
  DeviceBuffer<unsigned> out(16 * 32);
  const auto got = for_all_orders([&] {
    run_votes(out.data());
    return out.get();
  });
  unsigned third = 0, sum = 0, least = ~0u, most = 0, all = ~0u, any = 0, odd = 0;
  for (unsigned lane = 0; lane < 32; ++lane) {
    const unsigned u = lane * 2654435761u;
    if (lane % 3 == 0) third |= 1u << lane;
    sum += u;
    least = std::min(least, u);
    most = std::max(most, u);
    all &= u | 5u;
    any |= u & 0xf0fu;
    odd ^= u;
  }
  const unsigned expected[14] = {third,
                                 1,
                                 0,
                                 0,
                                 1,
                                 sum,
                                 least,
                                 most,
                                 all,
                                 any,
                                 odd,
                                 static_cast<unsigned>(3200 - 4960),
                                 static_cast<unsigned>(100 - 310),
                                 static_cast<unsigned>(-1)};
  for (unsigned lane = 0; lane < 32; ++lane) {
    CAPTURE(lane);
    for (unsigned row = 0; row < 14; ++row) {
      CAPTURE(row);
      CHECK(got[row * 32 + lane] == expected[row]);
    }
    CHECK(got[14 * 32 + lane] == (lane % 2 == 0 ? 240u : 0xaaaaaaaau & ~0x1ffffu));
  }
}

TEST_CASE("blocks, shared memory and barriers") {
  if (!has_device()) return;
  const int n = 140;
  DeviceBuffer<int> out(6 * n);
  const auto got = for_all_orders([&] {
    run_block(out.data());
    return out.get();
  });
  for (int block = 0; block < 6; ++block)
    for (int t = 0; t < n; ++t)
      REQUIRE(got[static_cast<std::size_t>(block * n + t)] ==
              t % 120 + (n - 1 - t) * (n - 1 - t) + 4 + 47 * 1000000 + 100000000);
}

TEST_CASE("atomics") {
  if (!has_device()) return;
  DeviceBuffer<unsigned> integers(8, 0);
  DeviceBuffer<double> numbers(1, 0);
  DeviceBuffer<float> floats(1, 0);
  DeviceBuffer<int> old(16);
  run_atomics(integers.data(), numbers.data(), floats.data(), old.data());
  const auto got = integers.get();
  unsigned parity = 0;
  for (unsigned thread = 0; thread < 1024; ++thread) parity ^= thread;
  CHECK(got[0] == 2048);
  CHECK(got[1] == 1023);
  CHECK(static_cast<int>(got[2]) == -1023);
  CHECK(got[3] == 0xffff);
  CHECK(got[4] == parity);
  CHECK(got[5] == static_cast<unsigned>(-1024));
  CHECK((got[6] >= 1 && got[6] <= 16));
  CHECK(got[7] == 64);
  CHECK(numbers.get()[0] == 256);
  CHECK(floats.get()[0] == 512);
  const auto found = old.get();  // the first block finds 0, the others find the first
  CHECK(std::count(found.begin(), found.end(), 0) == 1);
  CHECK(std::count(found.begin(), found.end(), static_cast<int>(got[6])) == 15);
}

TEST_CASE("bits that are cleared by many threads") {
  if (!has_device()) return;
  DeviceBuffer<unsigned> words(3), found(4 * 96);
  DeviceBuffer<int> flag(1);
  words.set({0xffffffffu, 0xffffffffu, 0xfffffff0u});
  flag.set({5});
  run_clear_bits(words.data(), flag.data(), found.data());
  std::vector<unsigned> left = {0xffffffffu, 0xffffffffu, 0xfffffff0u}, seen(4 * 96, 0);
  for (unsigned thread = 0; thread < 96; ++thread) {
    if (thread % 5 == 4) continue;  // there is no such block
    unsigned& word = left[thread / 32];
    const unsigned bit = 1u << thread % 32;
    seen[thread % 5 * 96 + thread] = word & bit;
    word &= ~bit;
  }
  CHECK(words.get() == left);
  CHECK(found.get() == seen);
  CHECK(flag.get()[0] == 0);
}

TEST_CASE("bits") {
  if (!has_device()) return;
  DeviceBuffer<unsigned> out(16);
  for (const auto& [x, y] : {std::pair{0x00f01a40u, 0x89abcdefu}, std::pair{0x80000001u, 3u}}) {
    run_bits(x, y, out.data());
    const auto got = out.get();
    unsigned reversed = 0;
    for (int i = 0; i < 32; ++i) reversed |= (x >> i & 1) << (31 - i);
    std::size_t i = 0;
    const auto ones = static_cast<unsigned>(std::popcount(x));
    CHECK(got[i++] == ones);
    CHECK(got[i++] == ones + static_cast<unsigned>(std::popcount(y)));
    CHECK(got[i++] == static_cast<unsigned>(std::countl_zero(x)));
    CHECK(got[i++] == 32 + static_cast<unsigned>(std::countl_zero(x)));
    CHECK(got[i++] == static_cast<unsigned>(std::countr_zero(x)) + 1);
    CHECK(got[i++] == static_cast<unsigned>(std::countr_zero(x)) + 33);
    CHECK(got[i++] == reversed);
    CHECK(got[i++] == static_cast<unsigned>(static_cast<std::uint64_t>(x) * y >> 32));
    // Selector 0x5214: bytes 4, 1, 2, 5 of y:x from the lowest upwards.
    CHECK(got[i++] == ((y & 0xff) | (x & 0xff00) | (x & 0xff0000) | (y >> 8 & 0xff) << 24));
    CHECK(got[i++] == 0x40400000u);
    CHECK(got[i++] == 0x40400000u);
    CHECK(got[i++] == 0x3ff80000u);
    CHECK(got[i++] == 4);
    CHECK(got[i++] == std::min(x, y));
    CHECK(got[i++] == std::max(x, y));
    CHECK(got[i++] == 3 * ones);
  }
}

TEST_CASE("arithmetic") {
  if (!has_device()) return;
  std::vector<float> x;
  for (int i = -60; i <= 60; ++i) x.push_back(0.37f * static_cast<float>(i) + 0.05f);
  DeviceBuffer<float> dx(x), out(8 * x.size());
  run_arithmetic(dx.data(), static_cast<int>(x.size()), out.data());
  const auto got = out.get();
  for (std::size_t i = 0; i < x.size(); ++i) {
    CAPTURE(x[i]);
    const double v = x[i], a = std::abs(v);
    const double expected[8] = {std::exp2(v),
                                std::log2(a),
                                std::exp(v),
                                std::log(a),
                                1 / std::sqrt(a),
                                1 / v,
                                std::clamp(v, 0.0, 1.0),
                                std::cos(M_PI * v)};
    for (std::size_t k = 0; k < 8; ++k) {
      CAPTURE(k);
      CHECK(std::abs(got[8 * i + k] - expected[k]) <= 4e-6 * (std::abs(expected[k]) + 1));
    }
  }
  const std::vector<float> edges = {-INFINITY, -200, 0};
  DeviceBuffer<float> de(edges), edge_out(8 * 3);
  run_arithmetic(de.data(), 3, edge_out.data());
  CHECK(edge_out.get()[0] == 0);                  // 2^-inf
  CHECK(edge_out.get()[8] <= 1e-38);              // 2^-200
  CHECK(edge_out.get()[2 * 8] == 1);              // 2^0
  CHECK(edge_out.get()[2 * 8 + 1] == -INFINITY);  // log2(0)
}

TEST_CASE("fused multiplication and addition, logarithms, thread numbers") {
  if (!has_device()) return;
  std::vector<float> a, b, c;
  for (int i = 0; i < 192; ++i) {
    const float little = std::ldexp(static_cast<float>(i + 1), -20);
    a.push_back(1 + little);
    b.push_back(1 - little);
    c.push_back(-1);  // what is left is below the last bit of a rounded product
  }
  DeviceBuffer<float> da(a), db(b), dc(c), out(2 * a.size());
  const auto got = for_all_orders([&] {
    run_fused(da.data(), db.data(), dc.data(), out.data());
    return out.get();
  });
  for (std::size_t i = 0; i < a.size(); ++i) {
    CAPTURE(i);
    const double exact = static_cast<double>(a[i]) * static_cast<double>(b[i]) - 1;
    const double logarithm = std::log2(static_cast<double>(a[i]));
    CHECK(got[2 * i] == exact);
    CHECK(std::abs(got[2 * i + 1] - logarithm) <= 1e-6 * logarithm);
  }
}

TEST_CASE("cp.async") {
  if (!has_device()) return;
  std::vector<int> source(96 * 4);
  for (std::size_t i = 0; i < source.size(); ++i) source[i] = static_cast<int>(i) + 1;
  DeviceBuffer<int> in(source), out(source.size());
  for (const bool through_l1 : {false, true}) {
    const auto got = for_all_orders([&] {
      run_cp_async(in.data(), out.data(), through_l1);
      return out.get();
    });
    for (std::size_t i = 0; i < source.size(); ++i) {
      const bool filled = i >= 64 * 4 && i % 4 >= i / 4 % 4;
      REQUIRE(got[i] == (filled ? 0 : source[i]));
    }
  }
}

TEST_CASE("cp.async of 4 bytes: any multiple of 4, zero filling") {
  if (!has_device()) return;
  std::vector<int> source(33);
  for (std::size_t i = 0; i < source.size(); ++i) source[i] = static_cast<int>(i + 100);
  DeviceBuffer<int> in(source), out(32);
  const auto got = for_all_orders([&] {
    run_cp_async4(in.data(), out.data());
    return out.get();
  });
  for (std::size_t i = 0; i < 32; ++i) REQUIRE(got[31 - i] == (i % 3 == 0 ? 0 : source[i + 1]));
}

TEST_CASE("ldmatrix") {
  if (!has_device()) return;
  std::vector<__nv_bfloat16> m(32 * 16);
  for (std::size_t i = 0; i < m.size(); ++i)
    m[i] = std::bit_cast<__nv_bfloat16>(static_cast<std::uint16_t>(i * 77));
  DeviceBuffer<__nv_bfloat16> in(m);
  DeviceBuffer<std::uint32_t> out(14 * 32);
  const auto got = for_all_orders([&] {
    run_ldmatrix(in.data(), out.data());
    return out.get();
  });
  for (std::size_t lane = 0; lane < 32; ++lane) {
    CAPTURE(lane);
    const std::size_t g = lane / 4, t = lane % 4;
    for (std::size_t k = 0; k < 4; ++k) {  // matrix k: rows k % 2 * 8 and on, columns k / 2 * 8 and on
      const auto at = [&](std::size_t r, std::size_t c) {
        return bits_of(m[(k % 2 * 8 + r) * 16 + k / 2 * 8 + c]);
      };
      const std::uint32_t plain = at(g, 2 * t) | at(g, 2 * t + 1) << 16;
      const std::uint32_t transposed = at(2 * t, g) | at(2 * t + 1, g) << 16;
      if (k < 1) CHECK(got[lane] == plain);
      if (k < 2) CHECK(got[(1 + k) * 32 + lane] == plain);
      CHECK(got[(3 + k) * 32 + lane] == plain);
      if (k < 1) CHECK(got[7 * 32 + lane] == transposed);
      if (k < 2) CHECK(got[(8 + k) * 32 + lane] == transposed);
      CHECK(got[(10 + k) * 32 + lane] == transposed);
    }
  }
}

TEST_CASE("mma") {
  if (!has_device()) return;
  const auto a = bf16_numbers(16 * 16, 19), b = bf16_numbers(16 * 8, 23);
  std::vector<float> d(16 * 8);
  for (std::size_t i = 0; i < d.size(); ++i) d[i] = static_cast<float>(i) * 0.5f;
  DeviceBuffer<__nv_bfloat16> da(a), db(b);
  DeviceBuffer<float> dd(d.size());
  const auto got = for_all_orders([&] {
    dd.set(d);
    run_mma(da.data(), db.data(), dd.data());
    return dd.get();
  });
  for (std::size_t row = 0; row < 16; ++row)
    for (std::size_t column = 0; column < 8; ++column) {
      float expected = d[row * 8 + column];  // integers and halves: exact
      for (std::size_t k = 0; k < 16; ++k)
        expected += __bfloat162float(a[row * 16 + k]) * __bfloat162float(b[k * 8 + column]);
      CHECK(got[row * 8 + column] == expected);
    }
}

TEST_CASE("mbarriers between warps that copy for each other") {
  if (!has_device()) return;
  for (const int rounds : {1, 2, 3, 4, 13}) {
    CAPTURE(rounds);
    std::vector<float> source(static_cast<std::size_t>(rounds) * 128);
    for (std::size_t i = 0; i < source.size(); ++i) source[i] = static_cast<float>(i % 89);
    DeviceBuffer<float> in(source), out(128);
    const auto got = for_all_orders([&] {
      run_mbarrier_ring(in.data(), rounds, out.data());
      return out.get();
    });
    for (std::size_t i = 0; i < 128; ++i) {
      float expected = 0;
      for (std::size_t r = 0; r < static_cast<std::size_t>(rounds); ++r)
        expected += source[r * 128 + 32 * ((i / 32 + r) % 4) + i % 32] * static_cast<float>(r + 1);
      CHECK(got[i] == expected);
    }
  }
}

TEST_CASE("bulk copies and mbarriers") {
  if (!has_device()) return;
  int major = 0;
  cuda_check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
  if (major < 9) {
    std::printf("skipped: bulk copies need a device of compute capability 9.0\n");
    return;
  }
  for (const int rounds : {1, 2, 5}) {
    CAPTURE(rounds);
    std::vector<float> source(static_cast<std::size_t>(rounds) * 256);
    for (std::size_t i = 0; i < source.size(); ++i) source[i] = static_cast<float>(i % 91);
    DeviceBuffer<float> in(source), out(256);
    const auto got = for_all_orders([&] {
      run_bulk_copy(in.data(), rounds, out.data());
      return out.get();
    });
    for (std::size_t i = 0; i < 256; ++i) {
      float expected = 0;
      for (std::size_t r = 0; r < static_cast<std::size_t>(rounds); ++r)
        expected += source[r * 256 + i] * static_cast<float>(r + 1);
      CHECK(got[i] == expected);
    }
  }
}

TEST_CASE("named barriers") {
  if (!has_device()) return;
  DeviceBuffer<int> out(128);
  const auto got = for_all_orders([&] {
    run_named_barrier(out.data());
    return out.get();
  });
  for (int thread = 0; thread < 128; ++thread) {
    const int pair = thread / 64;
    CHECK(got[static_cast<std::size_t>(thread)] == pair * 64 + 63 - thread % 64 + 2 + pair);
  }
}

TEST_CASE("dynamic shared memory up to the limit") {
  if (!has_device()) return;
  int limit = 0;
  cuda_check(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
  DeviceBuffer<unsigned> out(256);
  for (const int bytes : {4, 1000, 50000, limit}) {
    CAPTURE(bytes);
    run_dynamic_shared(256, static_cast<std::size_t>(bytes), out.data(), nullptr);
    const auto got = out.get();
    const unsigned n = static_cast<unsigned>(bytes) / 4;
    for (unsigned t = 0; t < 256; ++t) {
      unsigned sum = 0;
      for (unsigned i = t; i < n; i += 256) sum += n - 1 - i;
      REQUIRE(got[t] == sum);
    }
  }
  CHECK_THROWS_AS(run_dynamic_shared(256, static_cast<std::size_t>(limit) + 1024, out.data(), nullptr),
                  CudaError);
  CHECK_THROWS_AS(run_dynamic_shared(1025, 4, out.data(), nullptr), CudaError);
}

TEST_CASE("dynamic shared memory beside static: below, at and above 48 KiB together") {
  if (!has_device()) return;
  int limit = 0;
  cuda_check(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
  DeviceBuffer<unsigned> out(256);
  for (const int bytes :
       {32 * 1024, 44 * 1024, 48 * 1024 - 512, 48 * 1024, 64 * 1024, limit - kStaticShared, 4}) {
    CAPTURE(bytes);
    run_static_and_dynamic_shared(256, static_cast<std::size_t>(bytes), out.data());
    const auto got = out.get();
    const unsigned n = static_cast<unsigned>(bytes) / 4;
    for (unsigned t = 0; t < 256; ++t) {
      unsigned sum = 0;
      for (unsigned i = t; i < n; i += 256) sum += n - 1 - i;
      REQUIRE(got[255 - t] == sum);
    }
  }
}

TEST_CASE("streams, events and copies") {
  if (!has_device()) return;
  cudaStream_t stream{};
  cudaEvent_t start{}, end{};
  cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  cuda_check(cudaEventCreate(&start));
  cuda_check(cudaEventCreate(&end));
  DeviceBuffer<unsigned> out(256), copy(256);
  cuda_check(cudaEventRecord(start, stream));
  run_dynamic_shared(256, 4, out.data(), stream);
  cuda_check(cudaMemcpyAsync(copy.data(), out.data(), 256 * 4, cudaMemcpyDeviceToDevice, stream));
  cuda_check(cudaMemsetAsync(copy.data() + 1, 7, 4, stream));
  cuda_check(cudaEventRecord(end, stream));
  cuda_check(cudaStreamSynchronize(stream));
  float milliseconds = -1;
  cuda_check(cudaEventElapsedTime(&milliseconds, start, end));
  CHECK(milliseconds >= 0);
  const auto got = copy.get();
  CHECK(got[0] == 0);
  CHECK(got[1] == 0x07070707u);
  cuda_check(cudaEventDestroy(start));
  cuda_check(cudaEventDestroy(end));
  cuda_check(cudaStreamDestroy(stream));
}

TEST_SUITE_END();

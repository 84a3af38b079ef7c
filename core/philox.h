// Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a counter-based
// generator.
//
// A value is a function of (seed, stream, element) alone, so it does not depend on threads, on devices or on
// the order of calls. Integers and uniforms are equal bit for bit on every device, normals to 1e-6. What is
// constexpr here runs in kernels too.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

namespace llsa {

struct Philox {
  std::uint64_t seed = 0;    ///< key of the generator
  std::uint64_t stream = 0;  ///< upper half of the counter: what the numbers are for, and for which sample

  /// Four independent 32-bit words for a counter value.
  constexpr std::array<std::uint32_t, 4> words(std::uint64_t counter) const {
    std::array<std::uint32_t, 4> x = {
        static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32),
        static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32)};
    auto k0 = static_cast<std::uint32_t>(seed);
    auto k1 = static_cast<std::uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
      const std::uint64_t a = static_cast<std::uint64_t>(0xD2511F53u) * x[0];
      const std::uint64_t b = static_cast<std::uint64_t>(0xCD9E8D57u) * x[2];
      x = {static_cast<std::uint32_t>(b >> 32) ^ x[1] ^ k0, static_cast<std::uint32_t>(b),
           static_cast<std::uint32_t>(a >> 32) ^ x[3] ^ k1, static_cast<std::uint32_t>(a)};
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    return x;
  }

  /// The element-th 32-bit word of the stream.
  constexpr std::uint32_t word(std::uint64_t element) const { return words(element / 4)[element % 4]; }

  /// Uniform in [0, 1) with 24 bits.
  static constexpr float to_uniform(std::uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }
  float uniform(std::uint64_t element) const { return to_uniform(word(element)); }

  /// Uniform integer in [0, n), n >= 1, by multiplication of a 32-bit word (bias below n / 2^32).
  std::uint32_t below(std::uint64_t element, std::uint32_t n) const {
    return static_cast<std::uint32_t>((static_cast<std::uint64_t>(word(element)) * n) >> 32);
  }

  /// Standard normal by Box-Muller: elements 2i and 2i + 1 share two words.
  float normal(std::uint64_t element) const {
    const std::uint64_t even = element & ~std::uint64_t{1};
    const auto w = words(even / 4);
    const std::size_t at = even % 4;
    const auto [a, b] = box_muller(w[at], w[at + 1]);
    return (element & 1) ? b : a;
  }

  /// Two standard normals from two words.
  static std::pair<float, float> box_muller(std::uint32_t w0, std::uint32_t w1) {
    const float u = (static_cast<float>(w0 >> 8) + 0.5f) * 0x1p-24f;  // in (0, 1): the logarithm is finite
    const float r = std::sqrt(-2.0f * std::log(u));
    const float angle = 6.28318530717958648f * to_uniform(w1);
    return {r * std::cos(angle), r * std::sin(angle)};
  }
};

/// 0 .. n - 1 in a random order, by Fisher and Yates: element i of the stream decides on place i - 1.
template <class Int>
std::vector<Int> random_order(const Philox& random, std::int64_t n) {
  std::vector<Int> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), Int{0});
  for (std::size_t i = order.size(); i > 1; --i)
    std::swap(order[i - 1], order[random.below(i, static_cast<std::uint32_t>(i))]);
  return order;
}

}  // namespace llsa

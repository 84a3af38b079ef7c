// Known answers of Philox 4x32-10 (Random123's published vectors), and statistics of uniforms and normals.
#include "core/philox.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <set>
#include <vector>

using namespace llsa;

namespace {

using Words = std::array<std::uint32_t, 4>;

}  // namespace

TEST_SUITE_BEGIN("core/philox");

TEST_CASE("known answers") {
  CHECK(Philox{0, 0}.words(0) == Words{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u});
  CHECK(Philox{~0ull, ~0ull}.words(~0ull) == Words{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu});
  // counter and key: the digits of pi
  CHECK(Philox{0x299f31d0a4093822ull, 0x0370734413198a2eull}.words(0x85a308d3243f6a88ull) ==
        Words{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u});
}

TEST_CASE("element addressing agrees with whole counters") {
  const Philox random{17, 5};
  for (std::uint64_t element : {0ull, 1ull, 2ull, 3ull, 4ull, 4000000001ull, (1ull << 40) + 6}) {
    CHECK(random.word(element) == random.words(element / 4)[element % 4]);
  }
  const auto [a, b] = Philox::box_muller(random.word(6), random.word(7));
  CHECK(random.normal(6) == a);
  CHECK(random.normal(7) == b);
}

TEST_CASE("uniforms: range, moments, even spread") {
  CHECK(Philox::to_uniform(0) == 0.0f);
  CHECK(Philox::to_uniform(~0u) < 1.0f);
  constexpr int kCount = 200000;
  const Philox random{1, 2};
  double sum = 0;
  double squares = 0;
  std::array<int, 16> bins{};
  for (int i = 0; i < kCount; ++i) {
    const float u = random.uniform(static_cast<std::uint64_t>(i));
    REQUIRE(u >= 0.0f);
    REQUIRE(u < 1.0f);
    sum += u;
    squares += static_cast<double>(u) * u;
    ++bins[static_cast<std::size_t>(u * 16)];
  }
  CHECK(std::abs(sum / kCount - 0.5) < 5 * std::sqrt(1.0 / 12 / kCount));
  CHECK(std::abs(squares / kCount - 1.0 / 3) < 5 * std::sqrt(4.0 / 45 / kCount));
  double chi = 0;  // 15 degrees of freedom: mean 15, 44.3 at 1e-4
  for (const int bin : bins) chi += std::pow(bin - kCount / 16.0, 2) / (kCount / 16.0);
  CHECK(chi < 44.3);
}

TEST_CASE("normals: moments, tails, no correlation of pairs") {
  constexpr int kCount = 200000;
  const Philox random{3, 4};
  double sum = 0;
  double squares = 0;
  double fourth = 0;
  double pairs = 0;
  int beyond_two = 0;
  for (int i = 0; i < kCount; ++i) {
    const double x = random.normal(static_cast<std::uint64_t>(i));
    REQUIRE(std::isfinite(x));
    sum += x;
    squares += x * x;
    fourth += x * x * x * x;
    if (i % 2 == 0) pairs += x * random.normal(static_cast<std::uint64_t>(i) + 1);
    if (std::abs(x) > 2) ++beyond_two;
  }
  CHECK(std::abs(sum / kCount) < 5 / std::sqrt(kCount));
  CHECK(std::abs(squares / kCount - 1) < 5 * std::sqrt(2.0 / kCount));
  CHECK(std::abs(fourth / kCount - 3) < 5 * std::sqrt(96.0 / kCount));
  CHECK(std::abs(pairs / (kCount / 2)) < 5 / std::sqrt(kCount / 2));
  CHECK(std::abs(beyond_two / static_cast<double>(kCount) - 0.0455) < 5 * std::sqrt(0.0455 / kCount));
  CHECK(std::isfinite(Philox::box_muller(0, 0).first));
  CHECK(std::isfinite(Philox::box_muller(~0u, ~0u).first));
}

TEST_CASE("seeds and streams give different numbers; below() stays below") {
  std::set<std::uint32_t> seen;
  for (std::uint64_t seed = 0; seed < 32; ++seed) {
    for (std::uint64_t stream = 0; stream < 32; ++stream) seen.insert(Philox{seed, stream}.word(0));
  }
  CHECK(seen.size() == 1024);
  const Philox random{9, 9};
  std::vector<int> counts(7, 0);
  for (std::uint64_t i = 0; i < 70000; ++i) {
    const std::uint32_t value = random.below(i, 7);
    REQUIRE(value < 7u);
    ++counts[value];
  }
  for (const int count : counts) CHECK(std::abs(count - 10000) < 500);
  CHECK(random.below(0, 1) == 0u);
}

TEST_SUITE_END();

#include "nn/morton.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "core/error.h"
#include "core/safetensors.h"

namespace llsa::nn {

TEST_SUITE_BEGIN("nn/morton");

TEST_CASE("squares agree with the golden order") {
  const SafetensorsFile golden(LLSA_SOURCE_DIR "/tests/golden/zorder.safetensors");
  for (const int n : {2, 4, 8, 16}) {
    const Tensor& expected = golden.at("zorder" + std::to_string(n));
    const auto order = morton_order(n, n);
    REQUIRE(static_cast<std::int64_t>(order.size()) == expected.numel());
    CHECK(std::equal(order.begin(), order.end(), expected.data<std::int32_t>()));
  }
}

TEST_CASE("any grid is a permutation, its inverse undoes it") {
  for (const auto& [rows, columns] : {std::pair{1, 1}, {1, 7}, {5, 1}, {3, 5}, {30, 20}, {17, 31}, {64, 2}}) {
    const auto order = morton_order(rows, columns);
    const auto inverse = inverse_order(order);
    auto sorted = order;
    std::sort(sorted.begin(), sorted.end());
    for (std::int32_t i = 0; i < rows * columns; ++i) {
      CHECK(sorted[static_cast<std::size_t>(i)] == i);
      CHECK(inverse[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])] == i);
    }
  }
}

TEST_CASE("the cells of a ragged grid keep the order of the square around it") {
  const auto square = morton_order(32, 32);
  const auto ragged = morton_order(30, 20);
  std::vector<std::int32_t> expected;
  for (const std::int32_t cell : square)
    if (cell / 32 < 30 && cell % 32 < 20) expected.push_back(cell / 32 * 20 + cell % 32);
  CHECK(ragged == expected);
}

TEST_CASE("sizes that cannot be are errors") {
  CHECK_THROWS_AS(morton_order(0, 4), ValueError);
  CHECK_THROWS_AS(morton_order(4, -1), ValueError);
  CHECK_THROWS_AS(morton_order(1 << 20, 1 << 20), ValueError);
}

TEST_SUITE_END();

}  // namespace llsa::nn

// Sorting by Morton code. Codes of a power-of-two square are 0 .. N-1; elsewhere the sort closes the gaps.
#include "nn/morton.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"

namespace llsa::nn {
namespace {

/// Moves bit i of a 32-bit value to bit 2i.
std::uint64_t spread(std::uint64_t x) {
  x = (x | (x << 16)) & 0x0000ffff0000ffffu;
  x = (x | (x << 8)) & 0x00ff00ff00ff00ffu;
  x = (x | (x << 4)) & 0x0f0f0f0f0f0f0f0fu;
  x = (x | (x << 2)) & 0x3333333333333333u;
  return (x | (x << 1)) & 0x5555555555555555u;
}

}  // namespace

std::vector<std::int32_t> morton_order(std::int64_t rows, std::int64_t columns) {
  if (rows < 1 || columns < 1 || rows > INT32_MAX / columns)
    throw ValueError(
        cat("[morton_order] expected a grid of 1 to ", INT32_MAX, " cells, got ", rows, " x ", columns));
  std::vector<std::uint64_t> code(static_cast<std::size_t>(rows * columns));
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < columns; ++c)
      code[static_cast<std::size_t>(r * columns + c)] =
          spread(static_cast<std::uint64_t>(r)) << 1 | spread(static_cast<std::uint64_t>(c));
  std::vector<std::int32_t> order(code.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return code[static_cast<std::size_t>(a)] < code[static_cast<std::size_t>(b)];
  });
  return order;
}

std::vector<std::int32_t> inverse_order(const std::vector<std::int32_t>& order) {
  std::vector<std::int32_t> inverse(order.size());
  for (std::size_t i = 0; i < order.size(); ++i)
    inverse[static_cast<std::size_t>(order[i])] = static_cast<std::int32_t>(i);
  return inverse;
}

}  // namespace llsa::nn

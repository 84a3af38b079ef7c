// Angles in f64, rounded once.
#include "nn/rope_table.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/copy.h"

namespace llsa::nn {
namespace {

/// Position ids of the n tokens of an axis, stretched to a length of R.
std::vector<double> axis_ids(std::int64_t n, std::int64_t r) {
  std::vector<double> ids(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    const double at = (static_cast<double>(i) + 0.5) * static_cast<double>(r) / static_cast<double>(n) - 0.5;
    ids[static_cast<std::size_t>(i)] = std::clamp(at, 0.0, static_cast<double>(r - 1));
  }
  return ids;
}

}  // namespace

kernels::RopeTable rope_table(Context& ctx, std::int64_t rows, std::int64_t columns, std::int64_t rope_rows,
                              std::int64_t rope_columns, std::int64_t head_dim,
                              const std::vector<std::int32_t>& order, DType dtype, bool columns_first) {
  if (head_dim < 4 || head_dim % 4 != 0)
    throw ValueError(
        cat("[rope_table] expected a head dimension that is a positive multiple of 4, got ", head_dim));
  if (rope_rows < 1 || rope_columns < 1)
    throw ValueError(
        cat("[rope_table] expected a rope size of at least 1x1, got ", rope_rows, "x", rope_columns));
  if (static_cast<std::int64_t>(order.size()) != rows * columns)
    throw ShapeError(
        cat("[rope_table] expected an order of ", rows * columns, " tokens, got ", order.size()));
  const std::int64_t quarter = head_dim / 4;  // pairs per axis
  const auto row_ids = axis_ids(rows, rope_rows);
  const auto column_ids = axis_ids(columns, rope_columns);
  std::vector<double> omega(static_cast<std::size_t>(quarter));
  for (std::int64_t i = 0; i < quarter; ++i)
    omega[static_cast<std::size_t>(i)] =
        std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim / 2));

  std::vector<double> cosines, sines;
  cosines.reserve(order.size() * static_cast<std::size_t>(2 * quarter));
  sines.reserve(cosines.capacity());
  for (const std::int32_t token : order) {
    double ids[2] = {row_ids[static_cast<std::size_t>(token / columns)],
                     column_ids[static_cast<std::size_t>(token % columns)]};
    if (columns_first) std::swap(ids[0], ids[1]);
    for (const double id : ids)
      for (const double w : omega) {
        cosines.push_back(std::cos(id * w));
        sines.push_back(std::sin(id * w));
      }
  }
  const Shape shape{rows * columns, 2 * quarter};
  return {kernels::cast(ctx, kernels::from_vector(ctx, cosines, shape), dtype),
          kernels::cast(ctx, kernels::from_vector(ctx, sines, shape), dtype)};
}

}  // namespace llsa::nn

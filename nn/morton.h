// Token order: Morton (Z-) order of a grid, so that runs of consecutive tokens are compact in space.
#pragma once

#include <cstdint>
#include <vector>

namespace llsa::nn {

/// order[z] = raster index of the z-th cell: the cells of a rows x columns grid sorted by Morton code, whose
/// bits alternate between row (more significant) and column. Any extents >= 1 up to 2^31 - 1 cells. Throws
/// ValueError otherwise.
std::vector<std::int32_t> morton_order(std::int64_t rows, std::int64_t columns);

/// inverse[order[z]] = z.
std::vector<std::int32_t> inverse_order(const std::vector<std::int32_t>& order);

}  // namespace llsa::nn

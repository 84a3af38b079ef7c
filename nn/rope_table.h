// Rotation angles of the two-axis RoPE.
#pragma once

#include <cstdint>
#include <vector>

#include "../core/context.h"
#include "../kernels/rope.h"

namespace llsa::nn {

/// cos and sin [N, D/2] for tokens of a rows x columns grid, in the given order (order[i] = raster index of
/// token i). The first D/4 pairs turn by the row id, the others by the column id, with frequencies 10000^(-2i
/// / (D/2)), i < D/4; on an axis of n tokens id(i) = clamp((i + 0.5) R / n - 0.5, 0, R - 1), where R is
/// rope_rows or rope_columns. With columns_first the first D/4 pairs turn by the column id and the others by the
/// row id. dtype f32 or f64; angles are computed in f64. Throws ValueError unless D is a positive multiple of 4.
kernels::RopeTable rope_table(Context& ctx, std::int64_t rows, std::int64_t columns, std::int64_t rope_rows,
                              std::int64_t rope_columns, std::int64_t head_dim,
                              const std::vector<std::int32_t>& order, DType dtype,
                              bool columns_first = false);

}  // namespace llsa::nn

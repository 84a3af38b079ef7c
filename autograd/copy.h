// Copies: layout, dtype, concatenation. Nothing is saved for backward.
#pragma once

#include <vector>

#include "var.h"

namespace llsa {

/// x itself if it is contiguous, else a contiguous copy. dx = dy.
Var contiguous(const Var& x);
/// x itself if it has that dtype, else a converted copy; floating dtypes. dx = dy converted back to x's
/// dtype.
Var cast(const Var& x, DType dtype);
/// Joins along an axis; the other extents and the dtypes agree. Each part's gradient is its slice of dy.
Var concat(const std::vector<Var>& parts, int axis);

}  // namespace llsa

// Views: other shapes and other orders of the same elements. Nothing is saved for backward; dx is the inverse
// view of dy.
#pragma once

#include <concepts>
#include <vector>

#include "var.h"

namespace llsa {

/// The same elements in row-major order under another shape; one extent may be -1. A view where the strides
/// allow one, otherwise a copy. Throws ShapeError when the numbers of elements differ.
Var reshape(const Var& x, const std::vector<std::int64_t>& extents);
template <std::same_as<Shape> S>  // a template, so that a braced list means the other one
Var reshape(const Var& x, const S& shape) {
  return reshape(x, shape.extents());
}
/// Swaps two axes.
Var transpose(const Var& x, int axis_a, int axis_b);
/// y's axis i is x's axis axes[i].
Var permute(const Var& x, const std::vector<int>& axes);
/// Elements begin, begin + step, ... < end of an axis. dx is dy there, 0 elsewhere.
Var slice(const Var& x, int axis, std::int64_t begin, std::int64_t end, std::int64_t step = 1);
/// Consecutive pieces of an axis with the given extents, which add up to its extent. One node for all pieces:
/// backward writes each piece's gradient once. Throws ShapeError.
std::vector<Var> split(const Var& x, const std::vector<std::int64_t>& extents, int axis);
/// `pieces` equal pieces. Throws ShapeError if their number does not divide the extent or is more than 2^20.
std::vector<Var> chunk(const Var& x, int pieces, int axis);
/// Broadcast to a larger shape. dx = dy summed over the axes that were broadcast.
Var expand(const Var& x, const Shape& shape);

}  // namespace llsa

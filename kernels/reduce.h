// Reductions over axes.
//
// f32, bf16 and f64. Sums run in f32 (f64 for f64) over fixed blocks whose partial sums are added pairwise,
// so the error grows with the logarithm of the length and the bits do not depend on the number of threads.
#pragma once

#include <vector>

#include "../core/context.h"

namespace llsa::kernels {

/// Sum over the axes (all of them when the list is empty and x has any); over nothing it is 0. A reduced axis
/// disappears, or stays with extent 1 (keepdim). Throws ShapeError for an axis out of range or named twice.
Tensor sum(Context& ctx, const Tensor& x, const std::vector<int>& axes, bool keepdim = false);
/// Sum divided by the number of elements; NaN over nothing.
Tensor mean(Context& ctx, const Tensor& x, const std::vector<int>& axes, bool keepdim = false);
/// Largest element, NaN if there is one. Throws ShapeError over nothing.
Tensor max(Context& ctx, const Tensor& x, const std::vector<int>& axes, bool keepdim = false);
/// Where the largest element stands on an axis, i32: the first one of equals; NaN is larger than any number.
/// The axis disappears, or stays with extent 1 (keepdim). Throws ShapeError for an axis out of range or
/// without elements.
Tensor argmax(Context& ctx, const Tensor& x, int axis, bool keepdim = false);
/// The adjoint of broadcasting: sums x down to a shape that broadcasts to x's. Returns x itself when the
/// shapes are equal.
Tensor sum_to(Context& ctx, const Tensor& x, const Shape& shape);

}  // namespace llsa::kernels

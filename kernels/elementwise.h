// Elementwise arithmetic and activation functions.
//
// f32, bf16 and f64; bf16 is computed in f32. Results are contiguous. Binary operations broadcast as NumPy
// does and take operands of one dtype. NaN and infinity propagate as in IEEE arithmetic.
#pragma once

#include "../core/context.h"
#include "elementwise_ops.h"

namespace llsa::kernels {

// add(ctx, a, b), greater(ctx, a, b) and so on, for every row of LLSA_BINARY_OPS and LLSA_COMPARISONS. Throw
// ShapeError when the shapes do not broadcast, DTypeError when the dtypes differ or are not floating.
#define LLSA_DECLARE(name, ...) Tensor name(Context& ctx, const Tensor& a, const Tensor& b);
LLSA_BINARY_OPS(LLSA_DECLARE)
LLSA_COMPARISONS(LLSA_DECLARE)
#undef LLSA_DECLARE

// exp(ctx, x) and so on, for every row of LLSA_UNARY_OPS. Throw DTypeError.
#define LLSA_DECLARE(name, ...) Tensor name(Context& ctx, const Tensor& x);
LLSA_UNARY_OPS(LLSA_DECLARE)
#undef LLSA_DECLARE

/// dx from dy and what the row says is saved (dy again for nothing); called by autograd, with the saved
/// tensor of the forward.
Tensor unary_backward(Context& ctx, UnaryOp op, const Tensor& dy, const Tensor& saved);

/// scale x + shift
Tensor affine(Context& ctx, const Tensor& x, double scale, double shift);

/// min(max(x, low), high); NaN stays NaN. Throws ValueError unless low <= high, DTypeError.
Tensor clamp(Context& ctx, const Tensor& x, double low, double high);
/// dx = dy where low <= x <= high, else 0. Saved: x.
Tensor clamp_backward(Context& ctx, const Tensor& dy, const Tensor& x, double low, double high);

/// a where the condition is not 0 (or is NaN), else b; the three broadcast. a and b have one floating dtype; a
/// condition of another dtype is converted to it. Throws ShapeError, DTypeError.
Tensor where(Context& ctx, const Tensor& condition, const Tensor& a, const Tensor& b);

/// into += x, x broadcast to into's shape; both with any strides. Throws ShapeError, DTypeError.
void accumulate(Context& ctx, const Tensor& x, const Tensor& into);

/// i32[1]: 1 if no element is infinite or NaN, else 0. It stays on the device.
Tensor all_finite(Context& ctx, const Tensor& x);

}  // namespace llsa::kernels

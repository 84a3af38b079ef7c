// Softmax and log-sum-exp over the last axis.
//
// f32, bf16 and f64; bf16 is computed in f32. The row maximum is subtracted first, so no finite input
// overflows. A NaN in a row makes the whole row NaN; so does a row of -infinity only (softmax), whose
// log-sum-exp is -infinity. The backward functions check nothing: they are called with what the forward saved,
// and with a gradient of its output's shape and dtype.
#pragma once

#include "../core/context.h"

namespace llsa::kernels {

/// y_i = e^(x_i) / sum_j e^(x_j) over the last axis of x [...,n]. Throws ShapeError for a scalar, DTypeError.
Tensor softmax(Context& ctx, const Tensor& x);
/// dx_i = y_i (dy_i - sum_j dy_j y_j). Saved: y.
Tensor softmax_backward(Context& ctx, const Tensor& dy, const Tensor& y);

/// l = ln sum_j e^(x_j) over the last axis, which disappears: [...,n] -> [...]. An empty last axis gives
/// -infinity.
Tensor log_sum_exp(Context& ctx, const Tensor& x);
/// dx_i = dl e^(x_i - l). Saved: x and l; dl and l have x's shape without its last axis.
Tensor log_sum_exp_backward(Context& ctx, const Tensor& dl, const Tensor& x, const Tensor& l);

}  // namespace llsa::kernels

// Losses: scalars (shape []) averaged over everything.
//
// f32, bf16 and f64. Sums run over fixed chunks, in f32 within a stretch of some hundred elements and in f64
// between them, and do not depend on the number of threads. The scalar of bf16 tensors is f32. The backward
// functions check nothing: they are called with what the forward took, and with a gradient of its output's
// shape and dtype.
#pragma once

#include "../core/context.h"

namespace llsa::kernels {

/// mean((a - b)^2) over two tensors of one shape and dtype. Saved: a, b. No elements give NaN.
Tensor mse(Context& ctx, const Tensor& a, const Tensor& b);
/// da = 2 dloss (a - b) / numel with dloss of shape [] (db = -da).
Tensor mse_backward(Context& ctx, const Tensor& dloss, const Tensor& a, const Tensor& b);

/// mean over rows of -ln softmax(logits)[label] with logits [n,c], labels i32 [n]. Saved: logits, labels.
/// Throws ValueError for a label outside [0, c), ShapeError, DTypeError.
Tensor cross_entropy(Context& ctx, const Tensor& logits, const Tensor& labels);
/// dlogits = dloss (softmax(logits) - onehot(label)) / n
Tensor cross_entropy_backward(Context& ctx, const Tensor& dloss, const Tensor& logits, const Tensor& labels);

}  // namespace llsa::kernels

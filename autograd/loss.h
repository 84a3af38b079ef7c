// Losses: scalars of shape [], averaged over everything (f32 for bf16 inputs).
#pragma once

#include "var.h"

namespace llsa {

/// mean((a - b)^2), one shape and dtype. da = 2 dloss (a - b) / numel, db = -da; saves a and b.
Var mse(const Var& a, const Var& b);

/// Mean over n rows of -ln softmax(logits)[label], logits [..,c], labels i32 [..]. dlogits = dloss
/// (softmax(logits) - onehot(label)) / n; saves logits and labels. Throws ShapeError for labels of another shape.
Var cross_entropy(const Var& logits, const Tensor& labels);

}  // namespace llsa

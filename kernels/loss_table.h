// Losses, as the backends provide them.
#pragma once

#include "../core/context.h"

namespace llsa::kernels {

/// Contiguous tensors. loss and dloss: one element, f32 (f64 for f64 tensors).
struct LossBackend {
  void (*mse)(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& loss);
  void (*mse_backward)(Context& ctx, const Tensor& dloss, const Tensor& a, const Tensor& b, const Tensor& da);
  /// logits [n,c], labels i32 [n]
  void (*cross_entropy)(Context& ctx, const Tensor& logits, const Tensor& labels, const Tensor& loss);
  void (*cross_entropy_backward)(Context& ctx, const Tensor& dloss, const Tensor& logits,
                                 const Tensor& labels, const Tensor& dlogits);
};

}  // namespace llsa::kernels

// Matrix products, as the backends provide them.
#pragma once

#include "../core/context.h"

namespace llsa::kernels {

/// Operands of linear_backward that are not wanted, or not there, are undefined tensors.
struct LinearBackwardArgs {
  Tensor dy;   ///< [M,N] contiguous
  Tensor x;    ///< [M,K] contiguous
  Tensor w;    ///< [N,K], one axis with unit stride
  Tensor pre;  ///< [M,N] contiguous or undefined: with it, dy is multiplied by gelu_tanh'(pre) first
  Tensor dx;   ///< out [M,K] contiguous
  Tensor dw;   ///< out [N,K] contiguous
  Tensor db;   ///< out [N]
};

/// All tensors of one call have one floating dtype; sums run in f32 (f64 for f64). Any extent may be 0.
struct MatmulBackend {
  /// out[B,M,N] = a[B,M,K] b[B,K,N]; out contiguous; a and b have any batch stride (0 where broadcast) and
  /// unit stride in one of their matrix axes.
  void (*matmul)(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& out);
  /// y[M,N] = x[M,K] w[N,K]^T + bias[N]; bias may be undefined; x and y contiguous, w with unit stride in one
  /// axis. With a defined pre[M,N]: pre gets that value and y = gelu_tanh(pre).
  void (*linear)(Context& ctx, const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y,
                 const Tensor& pre);
  /// dx = dy w, dw = dy^T x, db = column sums of dy.
  void (*linear_backward)(Context& ctx, const LinearBackwardArgs& args);
};

}  // namespace llsa::kernels

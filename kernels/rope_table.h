// RoPE and the head split, as the backends provide them.
#pragma once

#include "../core/context.h"

namespace llsa::kernels {

/// cos, sin: contiguous [N, D/2], f32 (f64 for f64 tensors). Other tensors share one floating dtype.
struct RopeBackend {
  /// y contiguous [b,H,N,D]; x any strides, unit stride in D. inverse turns by the negative angle.
  void (*rope)(Context& ctx, const Tensor& x, const Tensor& cos, const Tensor& sin, bool inverse,
               const Tensor& y);
  /// qkv contiguous [b,N,3C]; weights contiguous [D] or undefined (then the rstd is undefined too); cos, sin
  /// may be undefined; q, k, v contiguous [b,H,N,D]; q_rstd, k_rstd contiguous [b,H,N].
  void (*qkv_split)(Context& ctx, const Tensor& qkv, const Tensor& q_weight, const Tensor& k_weight,
                    double eps, const Tensor& cos, const Tensor& sin, const Tensor& q, const Tensor& k,
                    const Tensor& v, const Tensor& q_rstd, const Tensor& k_rstd);
  /// dq, dk, dv [b,H,N,D] with unit stride in D; dqkv contiguous; dq_weight, dk_weight defined where the
  /// weights are.
  void (*qkv_split_backward)(Context& ctx, const Tensor& dq, const Tensor& dk, const Tensor& dv,
                             const Tensor& qkv, const Tensor& q_weight, const Tensor& k_weight,
                             const Tensor& q_rstd, const Tensor& k_rstd, const Tensor& cos, const Tensor& sin,
                             const Tensor& dqkv, const Tensor& dq_weight, const Tensor& dk_weight);
};

}  // namespace llsa::kernels

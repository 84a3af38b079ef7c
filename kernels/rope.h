// Rotary position embedding, and its fusion with the head split and the q/k norm.
//
// A pair (x_2i, x_2i+1) of token n is turned by the angle whose cosine and sine are table entries [n, i] (Su
// et al., 2021): y_2i = cos x_2i - sin x_2i+1, y_2i+1 = sin x_2i + cos x_2i+1. The caller decides which
// angle belongs to which token. f32, bf16 and f64; the table is f32, or f64 for f64 tensors. The backward
// functions check nothing: they are called with what the forward took and saved, and with gradients of its
// outputs' shapes and dtypes.
#pragma once

#include "../core/context.h"

namespace llsa::kernels {

struct RopeTable {
  Tensor cos, sin;  ///< [N, D/2]
  bool defined() const { return cos.defined(); }
};

/// x [b,H,N,D] with any strides -> contiguous [b,H,N,D]. Throws ShapeError for an odd D or a table of another
/// size.
Tensor rope(Context& ctx, const Tensor& x, const RopeTable& table);
/// Turns back: the transpose of a rotation is its inverse.
Tensor rope_backward(Context& ctx, const Tensor& dy, const RopeTable& table);

/// Heads of one fused projection, contiguous [b,H,N,D], and 1 / rms of each query and key [b,H,N] (f32, f64
/// for f64; undefined where there is no weight).
struct QkvHeads {
  Tensor q, k, v, q_rstd, k_rstd;
};

/// qkv [b,N,3C] = (q, k, v) with C = H D -> head-major q, k, v. With weights [D], q and k are first divided
/// by their root mean square over D (plus eps under the root) and multiplied by the weight; with a table, q
/// and k are then rotated. An undefined weight or table leaves that step out. v is only moved. Saved: qkv,
/// q_rstd, k_rstd. Throws ShapeError when 3 heads does not divide the last axis, or for a weight or table of
/// another size; DTypeError.
QkvHeads qkv_split(Context& ctx, const Tensor& qkv, int heads, const Tensor& q_weight, const Tensor& k_weight,
                   double eps, const RopeTable& table);
/// dqkv [b,N,3C] from dq, dk, dv [b,H,N,D] with unit stride in D and any other strides. dq_weight and dk_weight [D] are
/// written to tensors of the caller, contiguous and in the dtype of sums (f32; f64 for f64); an undefined one is not wanted.
Tensor qkv_split_backward(Context& ctx, const Tensor& dq, const Tensor& dk, const Tensor& dv,
                          const Tensor& qkv, const Tensor& q_weight, const Tensor& k_weight,
                          const Tensor& q_rstd, const Tensor& k_rstd, const RopeTable& table,
                          const Tensor& dq_weight, const Tensor& dk_weight);
struct QkvGrads {
  Tensor dqkv, dq_weight, dk_weight;  ///< the last two undefined where there is no weight
};
/// The same with new tensors for the gradients of the weights.
QkvGrads qkv_split_backward(Context& ctx, const Tensor& dq, const Tensor& dk, const Tensor& dv,
                            const Tensor& qkv, const Tensor& q_weight, const Tensor& k_weight,
                            const Tensor& q_rstd, const Tensor& k_rstd, const RopeTable& table);

}  // namespace llsa::kernels

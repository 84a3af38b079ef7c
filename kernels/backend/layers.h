// The contract of a device, page 2 of 4 (tensors.h says what holds for all): layers.
#pragma once

#include <array>
#include <vector>

#include "../../core/context.h"
#include "../matmul.h"
#include "entry.h"

namespace llsa::kernels {

/// Operands of linear_backward that are not wanted, or not there, are undefined tensors.
struct LinearBackwardArgs {
  Tensor dy;   ///< [M,N] contiguous
  Tensor x;    ///< [M,K] contiguous
  Tensor w;    ///< [N,K], one axis with unit stride
  Tensor pre;  ///< [M,K] contiguous or undefined: with it, dx is multiplied by gelu_tanh'(pre)
  Tensor dx;   ///< out [M,K] contiguous
  Tensor dw;   ///< out [N,K] contiguous, in the dtype of sums: f32 (f64 for f64)
  Tensor db;   ///< out [N], likewise
};
inline double bytes_of(const LinearBackwardArgs& args) {
  return bytes_of(std::vector<Tensor>{args.dy, args.x, args.w, args.pre, args.dx, args.dw, args.db});
}

/// All tensors of one call have one floating dtype, unless said otherwise; sums run in f32 (f64 for f64). Any extent may be 0.
struct MatmulBackend {
  /// out[B,M,N] = a[B,M,K] b[B,K,N]; out contiguous; a and b have any batch stride (0 where broadcast) and
  /// unit stride in one of their matrix axes.
  Entry<void(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& out)> matmul;
  /// y[M,N] = x[M,K] w[N,K]^T + bias[N]; bias may be undefined; x and y contiguous, w with unit stride in one
  /// axis. With a defined pre[M,N]: pre gets that value and y = gelu_tanh(pre).
  Entry<void(Context& ctx, const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y,
             const Tensor& pre)>
      linear;
  /// dx = dy w (times gelu_tanh'(pre)), dw = dy^T x, db = column sums of dy.
  Entry<void(Context& ctx, const LinearBackwardArgs& args)> linear_backward;

  // As in matmul.h.
  Entry<void(Context& ctx, bool on)> tune_products;
  Entry<ProductChoices(Context& ctx)> product_choices;
  Entry<bool(Context& ctx, const ProductChoices& choices)> restore_product_choices;
};

/// A two-dimensional convolution of x[b,c,h,w].
struct ConvGeometry {
  std::int64_t batch = 0, channels = 0, height = 0, width = 0;
  std::array<std::int64_t, 2> kernel = {1, 1}, stride = {1, 1}, padding = {0, 0};
  std::int64_t out_height = 0, out_width = 0;

  std::int64_t patch() const { return channels * kernel[0] * kernel[1]; }
};

/// Some of the output: rows [row, row + rows) of images [image, image + images).
struct ConvSlice {
  std::int64_t image = 0, images = 0, row = 0, rows = 0;
};

/// The two halves of a convolution around a matrix product. Contiguous, f32 or f64.
struct ConvBackend {
  /// cols[image, (c,i,j), (p,q)] = the input under kernel element (i,j) of channel c at output position (p,q)
  /// of the slice, 0 in the padding. One more line than patch(), if cols has it, becomes ones (for the bias).
  Entry<void(Context& ctx, const ConvGeometry& geometry, const ConvSlice& slice, const Tensor& x,
             const Tensor& cols)>
      im2col;
  /// The adjoint: adds cols into dx. cols has patch() lines.
  Entry<void(Context& ctx, const ConvGeometry& geometry, const ConvSlice& slice, const Tensor& cols,
             const Tensor& dx)>
      col2im;
};

/// A whole convolution, or one of its gradients, by a library. Contiguous, f32, bf16 or f64. Each returns
/// false where the library declines, which it does by kind of convolution and always in the same way: then
/// the results are undefined, and im2col has to do the work. All null where there is no library.
struct ConvLibrary {
  Entry<bool(Context& ctx, const ConvGeometry& geometry, const Tensor& x, const Tensor& w, const Tensor& bias,
             const Tensor& y)>
      conv2d = nullptr;  ///< bias may be undefined
  Entry<bool(Context& ctx, const ConvGeometry& geometry, const Tensor& dy, const Tensor& w, const Tensor& dx)>
      conv2d_dx = nullptr;
  Entry<bool(Context& ctx, const ConvGeometry& geometry, const Tensor& dy, const Tensor& x, const Tensor& dw)>
      conv2d_dw = nullptr;
};

/// Contiguous tensors of one floating dtype; rows are the last axis, of length >= 0.
struct SoftmaxBackend {
  Entry<void(Context& ctx, const Tensor& x, const Tensor& y)> softmax;
  Entry<void(Context& ctx, const Tensor& dy, const Tensor& y, const Tensor& dx)> softmax_backward;
  Entry<void(Context& ctx, const Tensor& x, const Tensor& l)> log_sum_exp;
  Entry<void(Context& ctx, const Tensor& dl, const Tensor& x, const Tensor& l, const Tensor& dx)>
      log_sum_exp_backward;
};

/// Rows of C elements, C >= 1: x, y, dz and so on contiguous, of one floating dtype. mean, rstd: contiguous,
/// f32 (f64 for f64), one per row. Gradients that nobody wants are undefined.
struct NormBackend {
  /// y = (x - mean) rstd weight + bias; x [R,C]; weight, bias [C] contiguous or undefined.
  Entry<void(Context& ctx, const Tensor& x, const Tensor& weight, const Tensor& bias, double eps,
             const Tensor& y, const Tensor& mean, const Tensor& rstd)>
      layer_norm;
  Entry<void(Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& mean,
             const Tensor& rstd, const Tensor& dx, const Tensor& dw, const Tensor& db)>
      layer_norm_backward;
  /// y = (x - mean) rstd (1 + scale) + shift; x [b,N,C]; shift, scale [b,C] with unit stride in C.
  Entry<void(Context& ctx, const Tensor& x, const Tensor& shift, const Tensor& scale, double eps,
             const Tensor& y, const Tensor& mean, const Tensor& rstd)>
      layer_norm_modulate;
  Entry<void(Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& scale, const Tensor& mean,
             const Tensor& rstd, const Tensor& dx, const Tensor& dshift, const Tensor& dscale)>
      layer_norm_modulate_backward;
  /// y = x rstd weight; x [R,C]; weight [C] contiguous or undefined.
  Entry<void(Context& ctx, const Tensor& x, const Tensor& weight, double eps, const Tensor& y,
             const Tensor& rstd)>
      rms_norm;
  Entry<void(Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& rstd,
             const Tensor& dx, const Tensor& dw)>
      rms_norm_backward;
  /// z = x + gate y; x, y [b,N,C]; gate [b,C] with unit stride in C.
  Entry<void(Context& ctx, const Tensor& x, const Tensor& y, const Tensor& gate, const Tensor& z)>
      gate_residual;
  /// dy = gate dz, dgate = sum over N of dz y
  Entry<void(Context& ctx, const Tensor& dz, const Tensor& y, const Tensor& gate, const Tensor& dy,
             const Tensor& dgate)>
      gate_residual_backward;
  /// r = x + gate y, h = (r - mean) rstd (1 + scale) + shift; x, y [b,N,C]; factors [b,3C] with unit stride in its last axis:
  /// gate, shift and scale side by side.
  Entry<void(Context& ctx, const Tensor& x, const Tensor& y, const Tensor& factors, double eps,
             const Tensor& r, const Tensor& h, const Tensor& mean, const Tensor& rstd)>
      gate_norm_modulate;
  /// dr may be undefined; dfactors contiguous.
  Entry<void(Context& ctx, const Tensor& dr, const Tensor& dh, const Tensor& r, const Tensor& y,
             const Tensor& factors, const Tensor& mean, const Tensor& rstd, const Tensor& dx,
             const Tensor& dy, const Tensor& dfactors)>
      gate_norm_modulate_backward;
};

/// cos, sin: contiguous [N, D/2], f32 (f64 for f64 tensors). Other tensors share one floating dtype.
struct RopeBackend {
  /// y contiguous [b,H,N,D]; x any strides, unit stride in D. inverse turns by the negative angle.
  Entry<void(Context& ctx, const Tensor& x, const Tensor& cos, const Tensor& sin, bool inverse,
             const Tensor& y)>
      rope;
  /// qkv contiguous [b,N,3C]; weights contiguous [D] or undefined (then the rstd is undefined too); cos, sin
  /// may be undefined; q, k, v contiguous [b,H,N,D]; q_rstd, k_rstd contiguous [b,H,N].
  Entry<void(Context& ctx, const Tensor& qkv, const Tensor& q_weight, const Tensor& k_weight, double eps,
             const Tensor& cos, const Tensor& sin, const Tensor& q, const Tensor& k, const Tensor& v,
             const Tensor& q_rstd, const Tensor& k_rstd)>
      qkv_split;
  /// dq, dk, dv [b,H,N,D] with unit stride in D; dqkv contiguous; dq_weight, dk_weight contiguous in the dtype of sums,
  /// undefined where there is no weight or nobody wants them.
  Entry<void(Context& ctx, const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& qkv,
             const Tensor& q_weight, const Tensor& k_weight, const Tensor& q_rstd, const Tensor& k_rstd,
             const Tensor& cos, const Tensor& sin, const Tensor& dqkv, const Tensor& dq_weight,
             const Tensor& dk_weight)>
      qkv_split_backward;
};

/// Contiguous tensors of one floating dtype: x, dx [R,N,D]; y, dy [R,ceil(N/block),D].
struct PoolBackend {
  Entry<void(Context& ctx, const Tensor& x, std::int64_t block, const Tensor& y)> mean_pool;
  Entry<void(Context& ctx, const Tensor& dy, std::int64_t block, const Tensor& dx)> mean_pool_backward;
};

namespace cpu {
extern const MatmulBackend kMatmul;
extern const ConvBackend kConv;
extern const SoftmaxBackend kSoftmax;
extern const NormBackend kNorm;
extern const RopeBackend kRope;
extern const PoolBackend kPool;
}  // namespace cpu
namespace cuda {
extern const MatmulBackend kMatmul;
extern const ConvBackend kConv;
extern const ConvLibrary kConvLibrary;
extern const SoftmaxBackend kSoftmax;
extern const NormBackend kNorm;
extern const RopeBackend kRope;
extern const PoolBackend kPool;
}  // namespace cuda

}  // namespace llsa::kernels

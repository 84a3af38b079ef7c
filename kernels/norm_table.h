// Norms and their fusions, as the backends provide them.
#pragma once

#include "../core/context.h"

namespace llsa::kernels {

/// x, y, dy, dx, z: contiguous [G,R,C] or, where there are no groups, [R,C], of one floating dtype. gain,
/// offset, gate: that dtype, [G,C] with unit stride in C, or undefined. mean, rstd: contiguous, f32 (f64 for
/// f64), one per row. C >= 1.
struct NormBackend {
  /// y = (x - mean) rstd gain + offset; plus_one: 1 + gain instead of gain.
  void (*layer_norm)(Context& ctx, const Tensor& x, const Tensor& gain, const Tensor& offset, bool plus_one,
                     double eps, const Tensor& y, const Tensor& mean, const Tensor& rstd);
  /// dgain, doffset: contiguous [G,C] or undefined (not wanted).
  void (*layer_norm_backward)(Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& gain,
                              bool plus_one, const Tensor& mean, const Tensor& rstd, const Tensor& dx,
                              const Tensor& dgain, const Tensor& doffset);
  /// y = x rstd weight, weight [C] contiguous or undefined.
  void (*rms_norm)(Context& ctx, const Tensor& x, const Tensor& weight, double eps, const Tensor& y,
                   const Tensor& rstd);
  /// dw contiguous [C] or undefined.
  void (*rms_norm_backward)(Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& weight,
                            const Tensor& rstd, const Tensor& dx, const Tensor& dw);
  /// z = x + gate y
  void (*gate_residual)(Context& ctx, const Tensor& x, const Tensor& y, const Tensor& gate, const Tensor& z);
  /// dy = gate dz, dgate [G,C] contiguous
  void (*gate_residual_backward)(Context& ctx, const Tensor& dz, const Tensor& y, const Tensor& gate,
                                 const Tensor& dy, const Tensor& dgate);
};

}  // namespace llsa::kernels

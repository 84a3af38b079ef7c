// Layer norm, RMS norm, and the fused steps of a DiT block: norm + modulate, gate + residual, and both in one.
//
// f32, bf16 and f64. Statistics are kept and summed in f32 (f64 for f64): mean and rstd have that dtype.
// Weights, shifts, scales and gates have x's dtype; their gradients are summed over fixed ranges of rows, in
// order, so that the bits do not depend on the number of threads. The backward functions do not compute the
// statistics again, and check nothing: they are called with what the forward took and saved, and with a
// gradient of its output's shape and dtype.
#pragma once

#include "../core/context.h"

namespace llsa::kernels {

/// mean and rstd = 1 / sqrt(variance + eps): x's shape without its last axis.
struct NormResult {
  Tensor y, mean, rstd;
};
struct RmsNormResult {
  Tensor y, rstd;
};
struct NormGrads {
  Tensor dx, dw, db;  ///< dw and db undefined where there is no weight or bias
};

/// y = (x - mean) rstd weight + bias over the last axis of x [...,C] (Ba, Kiros and Hinton, 2016); the
/// variance is the mean square of x - mean. weight [C] or undefined (1), bias [C] or undefined (0). Saved: x,
/// mean, rstd. Throws ShapeError for a scalar, for C = 0 or a weight of another length; DTypeError.
NormResult layer_norm(Context& ctx, const Tensor& x, const Tensor& weight, const Tensor& bias, double eps);
/// dw is computed when weight is defined, db when need_db.
NormGrads layer_norm_backward(Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& weight,
                              const Tensor& mean, const Tensor& rstd, bool need_db);

/// y = x rstd weight, rstd = 1 / sqrt(mean(x^2) + eps), over the last axis of x [...,C] (Zhang and Sennrich,
/// 2019); weight [C] or undefined (1). Saved: x, rstd.
RmsNormResult rms_norm(Context& ctx, const Tensor& x, const Tensor& weight, double eps);
/// db stays undefined.
NormGrads rms_norm_backward(Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& weight,
                            const Tensor& rstd);

/// y = (x - mean) rstd (1 + scale) + shift with x [b,N,C] and one shift and scale [b,C] per sample (adaLN:
/// Peebles and Xie, 2023). shift and scale may be strided views with unit stride in C. mean, rstd [b,N].
/// Saved: x, scale, mean, rstd.
NormResult layer_norm_modulate(Context& ctx, const Tensor& x, const Tensor& shift, const Tensor& scale,
                               double eps);
struct ModulateGrads {
  Tensor dx, dshift, dscale;  ///< [b,N,C], [b,C], [b,C]
};
ModulateGrads layer_norm_modulate_backward(Context& ctx, const Tensor& dy, const Tensor& x,
                                           const Tensor& scale, const Tensor& mean, const Tensor& rstd);

/// z = x + gate y with x, y [b,N,C] and one gate [b,C] per sample. Saved: y, gate.
Tensor gate_residual(Context& ctx, const Tensor& x, const Tensor& y, const Tensor& gate);
struct GateGrads {
  Tensor dy, dgate;  ///< [b,N,C], [b,C]
};
/// dy = gate dz, dgate = sum over N of dz y; dx is dz itself.
GateGrads gate_residual_backward(Context& ctx, const Tensor& dz, const Tensor& y, const Tensor& gate);

/// The end of a branch y and the norm in front of the next one, in one pass over memory: r = x + gate y and
/// h = (r - mean) rstd (1 + scale) + shift, with x, y [b,N,C]. factors [b,3C] holds gate, shift and scale of each sample side
/// by side, with unit stride. mean and rstd [b,N] are those of r as it is stored. Saved: r, y, factors, mean, rstd.
struct GateNormResult {
  Tensor r, h, mean, rstd;
};
GateNormResult gate_norm_modulate(Context& ctx, const Tensor& x, const Tensor& y, const Tensor& factors,
                                  double eps);
struct GateNormGrads {
  Tensor dx, dy, dfactors;
};
/// dx = dr + the gradient of the norm, dy = gate dx, dgate = sum over N of dx y. dr may be undefined (0).
GateNormGrads gate_norm_modulate_backward(Context& ctx, const Tensor& dr, const Tensor& dh, const Tensor& r,
                                          const Tensor& y, const Tensor& factors, const Tensor& mean,
                                          const Tensor& rstd);

}  // namespace llsa::kernels

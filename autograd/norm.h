// Layer norm, RMS norm, and the fused steps of a DiT block.
//
// Statistics are kept in f32 (f64 for f64) and saved: no backward recomputes them. With n the normalised x
// and g the gradient that reaches it, dx = rstd (g - mean(g) - n mean(g n)) (layer norm; RMS norm without the
// mean(g)).
#pragma once

#include "var.h"

namespace llsa {

/// y = (x - mean) rstd weight + bias over the last axis of x [...,C], rstd = 1 / sqrt(variance + eps); weight
/// and bias [C] or undefined. Saves x, weight, mean, rstd. Ba, Kiros and Hinton, arXiv 1607.06450.
Var layer_norm(const Var& x, const Var& weight, const Var& bias, double eps);

/// y = x rstd weight, rstd = 1 / sqrt(mean(x^2) + eps), over the last axis of x [...,C]; weight [C] or
/// undefined. Saves x, weight, rstd. Zhang and Sennrich, arXiv 1910.07467.
Var rms_norm(const Var& x, const Var& weight, double eps);

/// y = layer_norm(x) (1 + scale) + shift, x [b,N,C], shift and scale [b,C] (views with unit stride in C are
/// welcome). Saves x, scale, mean, rstd. Peebles and Xie, arXiv 2212.09748.
Var layer_norm_modulate(const Var& x, const Var& shift, const Var& scale, double eps);

/// z = x + gate y, x and y [b,N,C], gate [b,C]. dx = dz, dy = gate dz, dgate = sum over N of dz y; saves y
/// and gate.
Var gate_residual(const Var& x, const Var& y, const Var& gate);

struct GateNormVars {
  Var r, h;
};
/// r = gate_residual(x, y, gate) and h = layer_norm_modulate(r, shift, scale, eps) in one pass: what stands between
/// two branches of a block. factors [b,3C] = gate, shift, scale side by side. dx = dr + the gradient of the norm,
/// dy = gate dx; saves r, y, factors, mean, rstd.
GateNormVars gate_norm_modulate(const Var& x, const Var& y, const Var& factors, double eps);

}  // namespace llsa

// The optimiser's arithmetic on flat buffers: gradient norm, clipping, AdamW, SGD, moving average.
//
// What changes from step to step (learning rate, step number, clip factor, decay, non-finite flag) lives in
// one-element tensors, so that a step needs no host synchronisation. Buffers are contiguous f32 (or f64)
// tensors of one dtype and size. One step reads
//
//     ss = sum_squares(ctx, g);                         // gradients summed over micro-batches and processes
//     clip = clip_gradient(ctx, ss, max_norm);          // clip.factor, clip.norm, clip.skip
//     advance_step(ctx, step, clip.skip);               // n = 1, 2, ..
//     adamw_step(ctx, {w, g, m, v}, {lr, clip.factor, step, clip.skip}, options);
//     ema_update(ctx, ema, w, ema_decay(ctx, step, options), clip.skip);
//     copy(ctx, w, low);                                // what a bf16 model computes with
//
// or the last three in one pass with adamw_ema_step on {w, g, m, v, low}. A gradient that is not finite sets
// clip.skip, and every later line leaves its tensors as they were.
#pragma once

#include "../core/context.h"

namespace llsa::kernels {

/// The stretch of elements of which kernels sum the squares first. A part of g that begins at a multiple of it has the same
/// sums as this part within the whole.
constexpr std::int64_t kSquareStretch = 2048;
/// sums[i] = sum of g^2 over the i-th stretch of g, in f64 [ceil(size / kSquareStretch)]. Any shape; f32, bf16, f64.
Tensor square_sums(Context& ctx, const Tensor& g);
/// sum of g^2 as f64 [1]: sum(square_sums(g)), in an order that depends on the size alone. An infinity or NaN in g gives
/// infinity or NaN.
Tensor sum_squares(Context& ctx, const Tensor& g);

struct ClipResult {
  Tensor norm;    ///< f64 [1], sqrt(sum_squares)
  Tensor factor;  ///< f64 [1], min(1, max_norm / (norm + 1e-6)); 1 when max_norm is 0 (no clipping)
  Tensor skip;    ///< i32 [1], 1 when the norm is not finite, else 0
};
/// sum_squares f64 [1]. Throws ValueError for a negative or non-finite max_norm.
ClipResult clip_gradient(Context& ctx, const Tensor& sum_squares, double max_norm);
/// The same, into tensors that are there.
void clip_gradient(Context& ctx, const Tensor& sum_squares, double max_norm, const ClipResult& into);

/// step i64 [1] += 1 unless skip (i32 [1] or undefined) is set.
void advance_step(Context& ctx, const Tensor& step, const Tensor& skip);

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 1e-2;
};
struct AdamWBuffers {
  Tensor w, g, m, v;  ///< weights, gradients, first and second moment (start at 0)
  Tensor low = {};    ///< bf16, becomes w rounded; undefined = none. The step's only optional buffer
};
struct AdamWScalars {
  Tensor lr;      ///< f64 [1]
  Tensor factor;  ///< f64 [1], multiplies g; undefined = 1
  Tensor step;    ///< i64 [1], n = 1 at the first call
  Tensor skip;    ///< i32 [1], when set nothing changes; undefined = 0
};
/// AdamW (Loshchilov and Hutter, 2019), decoupled decay, in place: with g' = factor g,
///     m = beta1 m + (1 - beta1) g',  v = beta2 v + (1 - beta2) g'^2,
///     w = w (1 - lr weight_decay) - lr (m / (1 - beta1^n)) / (sqrt(v / (1 - beta2^n)) + eps).
void adamw_step(Context& ctx, const AdamWBuffers& buffers, const AdamWScalars& scalars,
                const AdamWOptions& options);

struct SgdOptions {
  double momentum = 0.0, weight_decay = 0.0;
};
struct SgdBuffers {
  Tensor w, g;      ///< weights, gradients
  Tensor v = {};    ///< velocity (starts at 0); defined if and only if there is momentum
  Tensor low = {};  ///< bf16, becomes w rounded; undefined = none
};
struct SgdScalars {
  Tensor lr;      ///< f64 [1]
  Tensor factor;  ///< f64 [1], multiplies g; undefined = 1
  Tensor skip;    ///< i32 [1], when set nothing changes; undefined = 0
};
/// Stochastic gradient descent with momentum (Sutskever et al., 2013), in place:
///     v = momentum v + factor g + weight_decay w,  w = w - lr v.
void sgd_step(Context& ctx, const SgdBuffers& buffers, const SgdScalars& scalars, const SgdOptions& options);

struct EmaOptions {
  double power = 0.75, max_decay = 0.9999;
  bool warm_up = true;  ///< false: the decay is max_decay from the first step on
};
/// decay = min(1 - n^(-power), max_decay) as f64 [1], for step n i64 [1] >= 1 (n = 1: 0, the average becomes
/// the weights); 0 for n < 1. Without warm-up it is max_decay for every n.
Tensor ema_decay(Context& ctx, const Tensor& step, const EmaOptions& options = {});
/// ema = decay ema + (1 - decay) w in place, unless skip (i32 [1] or undefined) is set. decay 0 copies w
/// exactly.
void ema_update(Context& ctx, const Tensor& ema, const Tensor& w, const Tensor& decay, const Tensor& skip);

/// adamw_step and ema_update in one pass over memory, as adamw_step with buffers.low is a step and a copy;
/// bit for bit the same.
void adamw_ema_step(Context& ctx, const AdamWBuffers& buffers, const AdamWScalars& scalars,
                    const AdamWOptions& options, const Tensor& ema, const Tensor& decay);

}  // namespace llsa::kernels

// CUDA optimiser arithmetic; contracts in kernels/optim_table.h.
#pragma once

#include "../optim_table.h"

namespace llsa::kernels::cuda {

void sum_squares(Context& ctx, const Tensor& g, const Tensor& sum);
void clip_gradient(Context& ctx, const Tensor& sum_squares, double max_norm, const Tensor& norm,
                   const Tensor& factor, const Tensor& skip);
void advance_step(Context& ctx, const Tensor& step, const Tensor& skip);
void adamw(Context& ctx, const AdamWBuffers& buffers, const AdamWScalars& scalars,
           const AdamWOptions& options, const Tensor& ema, const Tensor& decay);
void ema_decay(Context& ctx, const Tensor& step, const EmaOptions& options, const Tensor& decay);
void ema_update(Context& ctx, const Tensor& ema, const Tensor& w, const Tensor& decay, const Tensor& skip);

}  // namespace llsa::kernels::cuda

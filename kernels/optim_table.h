// The optimiser's arithmetic, as the backends provide it.
#pragma once

#include "optim.h"

namespace llsa::kernels {

/// Contiguous tensors; meanings, dtypes and optional tensors as in optim.h.
struct OptimBackend {
  void (*sum_squares)(Context& ctx, const Tensor& g, const Tensor& sum);
  void (*clip_gradient)(Context& ctx, const Tensor& sum_squares, double max_norm, const Tensor& norm,
                        const Tensor& factor, const Tensor& skip);
  void (*advance_step)(Context& ctx, const Tensor& step, const Tensor& skip);
  /// ema and decay are undefined where no average is kept, buffers.low where there is no bf16 copy.
  void (*adamw)(Context& ctx, const AdamWBuffers& buffers, const AdamWScalars& scalars,
                const AdamWOptions& options, const Tensor& ema, const Tensor& decay);
  void (*ema_decay)(Context& ctx, const Tensor& step, const EmaOptions& options, const Tensor& decay);
  void (*ema_update)(Context& ctx, const Tensor& ema, const Tensor& w, const Tensor& decay,
                     const Tensor& skip);
};

}  // namespace llsa::kernels

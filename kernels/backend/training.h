// The contract of a device, page 4 of 4 (tensors.h says what holds for all): losses, diffusion, the optimiser.
#pragma once

#include "../../core/context.h"
#include "../diffusion.h"
#include "../optim.h"

namespace llsa::kernels {

/// Contiguous tensors. loss and dloss: one element, f32 (f64 for f64 tensors).
struct LossBackend {
  void (*mse)(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& loss);
  void (*mse_backward)(Context& ctx, const Tensor& dloss, const Tensor& a, const Tensor& b, const Tensor& da);
  /// logits [n,c], labels i32 [n]
  void (*cross_entropy)(Context& ctx, const Tensor& logits, const Tensor& labels, const Tensor& loss);
  void (*cross_entropy_backward)(Context& ctx, const Tensor& dloss, const Tensor& logits,
                                 const Tensor& labels, const Tensor& dlogits);
};

/// All tensors contiguous.
struct DiffusionBackend {
  /// sigma f32 [b] from ids i64 [b].
  void (*noise_levels)(Context& ctx, const Tensor& ids, NoiseLevel law, const LogitNormal& normal,
                       std::uint64_t seed, std::uint64_t stream, const Tensor& sigma);
  /// out i32 [b] from y i32 [b] and ids i64 [b].
  void (*drop_classes)(Context& ctx, const Tensor& y, const Tensor& ids, double probability,
                       std::int32_t null_class, std::uint64_t seed, std::uint64_t stream, const Tensor& out);
  /// rows i32 [tables,b] from y i32 [b]; throws ValueError for a class out of range.
  void (*class_rows)(Context& ctx, const Tensor& y, std::int32_t classes, const Tensor& rows);
  /// x_t and target from x and eps of one floating dtype and sigma f32 [b].
  void (*flow_mix)(Context& ctx, const Tensor& x, const Tensor& eps, const Tensor& sigma, double scale,
                   const Tensor& x_t, const Tensor& target);
  /// out [b,256] of any floating dtype from t f32 [b].
  void (*time_embedding)(Context& ctx, const Tensor& t, const Tensor& out);
};

/// Contiguous tensors; meanings, dtypes and optional tensors as in kernels/optim.h.
struct OptimBackend {
  void (*square_sums)(Context& ctx, const Tensor& g, const Tensor& sums);
  void (*clip_gradient)(Context& ctx, const Tensor& sum_squares, double max_norm, const Tensor& norm,
                        const Tensor& factor, const Tensor& skip);
  void (*advance_step)(Context& ctx, const Tensor& step, const Tensor& skip);
  /// ema and decay are undefined where no average is kept, buffers.low where there is no bf16 copy.
  void (*adamw)(Context& ctx, const AdamWBuffers& buffers, const AdamWScalars& scalars,
                const AdamWOptions& options, const Tensor& ema, const Tensor& decay);
  /// buffers.v and buffers.low are undefined where there is no momentum and no bf16 copy.
  void (*sgd)(Context& ctx, const SgdBuffers& buffers, const SgdScalars& scalars, const SgdOptions& options);
  void (*ema_decay)(Context& ctx, const Tensor& step, const EmaOptions& options, const Tensor& decay);
  void (*ema_update)(Context& ctx, const Tensor& ema, const Tensor& w, const Tensor& decay,
                     const Tensor& skip);
};

namespace cpu {
extern const LossBackend kLoss;
extern const DiffusionBackend kDiffusion;
extern const OptimBackend kOptim;
}  // namespace cpu
namespace cuda {
extern const LossBackend kLoss;
extern const DiffusionBackend kDiffusion;
extern const OptimBackend kOptim;
}  // namespace cuda

}  // namespace llsa::kernels

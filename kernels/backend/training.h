// The contract of a device, page 4 of 4 (tensors.h says what holds for all): losses, diffusion, the optimiser.
#pragma once

#include <vector>

#include "../../core/context.h"
#include "../diffusion.h"
#include "../optim.h"
#include "entry.h"

namespace llsa::kernels {

/// Contiguous tensors. loss and dloss: one element, f32 (f64 for f64 tensors).
struct LossBackend {
  Entry<void(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& loss)> mse;
  Entry<void(Context& ctx, const Tensor& dloss, const Tensor& a, const Tensor& b, const Tensor& da)>
      mse_backward;
  /// logits [n,c], labels i32 [n]
  Entry<void(Context& ctx, const Tensor& logits, const Tensor& labels, const Tensor& loss)> cross_entropy;
  Entry<void(Context& ctx, const Tensor& dloss, const Tensor& logits, const Tensor& labels,
             const Tensor& dlogits)>
      cross_entropy_backward;
};

/// All tensors contiguous.
struct DiffusionBackend {
  /// sigma f32 [b] from ids i64 [b].
  Entry<void(Context& ctx, const Tensor& ids, NoiseLevel law, const LogitNormal& normal, std::uint64_t seed,
             std::uint64_t stream, const Tensor& sigma)>
      noise_levels;
  /// out i32 [b] from y i32 [b] and ids i64 [b].
  Entry<void(Context& ctx, const Tensor& y, const Tensor& ids, double probability, std::int32_t null_class,
             std::uint64_t seed, std::uint64_t stream, const Tensor& out)>
      drop_classes;
  /// rows i32 [tables,b] from y i32 [b]; throws ValueError for a class out of range.
  Entry<void(Context& ctx, const Tensor& y, std::int32_t classes, const Tensor& rows)> class_rows;
  /// x_t and target from x and eps of one floating dtype and sigma f32 [b].
  Entry<void(Context& ctx, const Tensor& x, const Tensor& eps, const Tensor& sigma, double scale,
             const Tensor& x_t, const Tensor& target)>
      flow_mix;
  /// out [b,256] of any floating dtype from t f32 [b].
  Entry<void(Context& ctx, const Tensor& t, const Tensor& out)> time_embedding;
};

inline double bytes_of(const AdamWBuffers& b) {
  return bytes_of(std::vector<Tensor>{b.w, b.g, b.m, b.v, b.low});
}
inline double bytes_of(const SgdBuffers& b) { return bytes_of(std::vector<Tensor>{b.w, b.g, b.v, b.low}); }

/// Contiguous tensors; meanings, dtypes and optional tensors as in kernels/optim.h.
struct OptimBackend {
  Entry<void(Context& ctx, const Tensor& g, const Tensor& sums)> square_sums;
  Entry<void(Context& ctx, const Tensor& sum_squares, double max_norm, const Tensor& norm,
             const Tensor& factor, const Tensor& skip)>
      clip_gradient;
  Entry<void(Context& ctx, const Tensor& step, const Tensor& skip)> advance_step;
  /// ema and decay are undefined where no average is kept, buffers.low where there is no bf16 copy.
  Entry<void(Context& ctx, const AdamWBuffers& buffers, const AdamWScalars& scalars,
             const AdamWOptions& options, const Tensor& ema, const Tensor& decay)>
      adamw;
  /// buffers.v and buffers.low are undefined where there is no momentum and no bf16 copy.
  Entry<void(Context& ctx, const SgdBuffers& buffers, const SgdScalars& scalars, const SgdOptions& options)>
      sgd;
  Entry<void(Context& ctx, const Tensor& step, const EmaOptions& options, const Tensor& decay)> ema_decay;
  Entry<void(Context& ctx, const Tensor& ema, const Tensor& w, const Tensor& decay, const Tensor& skip)>
      ema_update;
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

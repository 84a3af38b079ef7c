// Flow-matching kernels, as the backends provide them.
#pragma once

#include "../core/context.h"
#include "diffusion.h"

namespace llsa::kernels {

/// All tensors contiguous.
struct DiffusionBackend {
  /// sigma f32 [b] from ids i64 [b].
  void (*noise_levels)(Context& ctx, const Tensor& ids, NoiseLevel law, std::uint64_t seed,
                       std::uint64_t stream, const Tensor& sigma);
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

}  // namespace llsa::kernels

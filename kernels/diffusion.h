// Noise levels, noisy images and time embeddings of flow matching.
//
// Draws are functions of (seed, stream, sample id) alone, so they depend neither on threads nor on how
// samples are batched.
#pragma once

#include "../core/context.h"

namespace llsa::kernels {

/// How noise levels are drawn. uniform: over {0.001, 0.002, .. 1.000}; logit_normal: 1 - floor(1000
/// sigmoid(N(mean, deviation^2))) / 1000, at least 0.001.
enum class NoiseLevel : std::uint8_t { uniform, logit_normal };
/// The normal law of logit(1 - sigma). With a mean below 0, levels with more noise than image are more frequent.
struct LogitNormal {
  double mean = 0.0, deviation = 1.0;
};

/// sigma f32 [b] for sample ids i64 [b]. Throws ShapeError, DTypeError, ValueError for a mean that is not finite
/// or a deviation that is not finite and at least 0.
Tensor noise_levels(Context& ctx, const Tensor& sample_ids, NoiseLevel law, std::uint64_t seed,
                    std::uint64_t stream, const LogitNormal& normal = {});

/// y with every class replaced by null_class with the given probability, one draw per sample. y i32 [b],
/// sample ids i64 [b]. Throws ShapeError, DTypeError, ValueError for a probability outside [0,1].
Tensor drop_classes(Context& ctx, const Tensor& y, const Tensor& sample_ids, double probability,
                    std::int32_t null_class, std::uint64_t seed, std::uint64_t stream);

/// rows[l,i] = l classes + y[i]: the rows that `tables` class tables, one behind the other, hold for a batch.
/// y i32 [b] -> i32 [tables,b]. Throws ValueError for a class outside [0, classes).
Tensor class_rows(Context& ctx, const Tensor& y, std::int32_t classes, std::int32_t tables);

struct FlowPair {
  Tensor x_t;     ///< (1 - sigma) x + sigma scale eps
  Tensor target;  ///< scale eps - x
};

/// x and eps [b,...] f32, bf16 or f64, sigma f32 [b]. Throws ShapeError, DTypeError.
FlowPair flow_mix(Context& ctx, const Tensor& x, const Tensor& eps, const Tensor& sigma, double scale);

/// [cos(t f_i), .., sin(t f_i), ..] with f_i = exp(-ln(10000) i / 127), i < 128: t f32 [b] -> [b,256]; angles
/// in f32.
Tensor time_embedding(Context& ctx, const Tensor& t, DType dtype);

}  // namespace llsa::kernels

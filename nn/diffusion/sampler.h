// Sampling: Euler steps along the flow from noise to image, with classifier-free guidance.
//
//   sigma_i = linspace(1000, 1, steps) / 1000, then 0
//   x += (sigma_{i+1} - sigma_i) v,   v = v_null + g (v_class - v_null)
#pragma once

#include <cstdint>
#include <vector>

#include "../../core/context.h"
#include "../../core/tensor.h"
#include "../callbacks.h"
#include "../denoiser.h"

namespace llsa::nn {

struct SampleOptions {
  std::int64_t count = 1;
  std::int64_t first = 0;  ///< number of the first image: images first .. first + count - 1 are drawn
  /// The class of image i is classes[i % size]; empty = 0, 1, .. in turn. Ignored by a model without classes.
  std::vector<std::int32_t> classes = {};
  double guidance = 1.0;  ///< 1 = the class alone, one model pass; otherwise two passes in one batch
  int steps = 20;
  std::uint64_t seed = 0;
  std::int64_t height = 0, width = 0;  ///< 0 = the model's own
  double noise_scale = 0.0;            ///< 0 = that of the model, scaled with noise_rescale to the size
  std::int64_t batch = 64;  ///< images at a time; image i is the same whatever it is, up to rounding
};

/// The noise levels: steps values from 1 to 0.001, then 0. Throws ValueError for steps < 1.
std::vector<double> euler_levels(int steps);

/// Runs the steps from a given start x [n,c,h,w]; y i32 [n], or undefined for a model without classes.
/// Returns the end, not clamped. Throws ShapeError when the model's prediction has another shape than x.
Tensor euler(Context& ctx, const Denoiser& model, const Tensor& start, const Tensor& y, double guidance,
             int steps);

/// The class of every image that sample() draws, in order; empty for a model without classes.
std::vector<std::int32_t> sample_classes(const Denoiser& model, const SampleOptions& options);

/// Draws images [n,channels,height,width], about [-1,1], not clamped, in the model's dtype. n is
/// options.count; where should_stop ended the work, only the images of complete batches are returned, and n
/// may be 0. Progress is counted in Euler steps of all batches. Throws ValueError for options outside their
/// range and a model in stages (Denoiser::cascade), and what euler() throws.
Tensor sample(Context& ctx, const Denoiser& model, const SampleOptions& options,
              const Callbacks& callbacks = {});

}  // namespace llsa::nn

// Sampling: Euler steps along the flow from noise to image, with classifier-free guidance.
//
//   sigma_i = linspace(1000, 1, steps) / 1000, then 0
//   x += (sigma_{i+1} - sigma_i) v,   v = v_null + g (v_class - v_null)
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "../../core/context.h"
#include "../../core/tensor.h"
#include "../dit.h"

namespace llsa::nn {

struct SampleOptions {
  std::int64_t count = 1;
  std::vector<std::int32_t>
      classes;  ///< class of image i is classes[i % size]; empty = 0, 1, .. in turn (ignored without classes)
  double guidance = 1.0;  ///< 1 = the class alone, one model pass; otherwise two passes in one batch
  int steps = 20;
  std::uint64_t seed = 0;
  std::int64_t height = 0, width = 0;  ///< 0 = the model's own
  double noise_scale = 0.0;            ///< 0 = noise_rescale of the size
  std::int64_t batch = 64;  ///< images at a time; image i is the same whatever it is, up to rounding
};

/// The noise levels: steps values from 1 to 0.001, then 0. Throws ValueError for steps < 1.
std::vector<double> euler_levels(int steps);

/// Runs the steps from a given start x [n,c,h,w]; y i32 [n] or undefined. Returns the end, not clamped.
Tensor euler(Context& ctx, Dit& model, const Tensor& start, const Tensor& y, double guidance, int steps);

/// Images [count,out_channels,height,width], about [-1,1], not clamped, f32. `progress(done, count)`, when
/// given, is called after each Euler step with (steps done, steps in all); to cancel, throw from it.
Tensor sample(Context& ctx, Dit& model, const SampleOptions& options,
              const std::function<void(std::int64_t, std::int64_t)>& progress = {});

/// x/2 + 0.5 clamped to [0,1].
Tensor to_unit_range(Context& ctx, const Tensor& images);

}  // namespace llsa::nn

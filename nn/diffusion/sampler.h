// Sampling: steps along the flow from noise to image, with classifier-free guidance.
//
//   sigma_i = linspace(1000, 1, steps) / 1000, then 0;   h = sigma_{i+1} - sigma_i
//   Euler   x += h v(x, sigma_i)
//   Heun    x += h (v(x, sigma_i) + v(x + h v(x, sigma_i), sigma_{i+1})) / 2, but Euler's step to 0, where there is no flow
//   v = v_null + g (v_class - v_null) where 1 - sigma lies in the guidance interval, else v_class
//
// Heun's error falls with the square of the number of steps, Euler's with the number. A step of Heun costs as much as
// two of Euler. An interval that leaves out the noisiest levels gives more varied images (Kynkaanniemi et al., arXiv
// 2404.07724), and outside the interval a step costs half. JiT (arXiv 2511.13720) uses 50 steps of Heun and [0.1, 1].
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "../../core/context.h"
#include "../../core/tensor.h"
#include "../callbacks.h"
#include "../denoiser.h"

namespace llsa::nn {

enum class Sampler { euler, heun };
/// "euler", "heun". Throws ValueError for another word.
Sampler sampler_kind(const std::string& name);

/// The smallest and the largest 1 - sigma at which images are guided: 0 is noise, 1 is the image.
using GuidanceInterval = std::array<double, 2>;
/// 0 <= a <= b <= 1.
inline bool is_valid(const GuidanceInterval& i) { return 0.0 <= i[0] && i[0] <= i[1] && i[1] <= 1.0; }
/// From "a,b". Throws ValueError unless 0 <= a <= b <= 1.
GuidanceInterval guidance_interval(const std::string& text);

struct SampleOptions {
  std::int64_t count = 1;
  std::int64_t first = 0;  ///< number of the first image: images first .. first + count - 1 are drawn
  /// The class of image i is classes[i % size]; empty = 0, 1, .. in turn. Ignored by a model without classes.
  std::vector<std::int32_t> classes = {};
  double guidance = 1.0;  ///< 1 = the class alone, one model pass; otherwise two passes in one batch
  GuidanceInterval guided = {0.0, 1.0};
  Sampler sampler = Sampler::euler;
  int steps = 20;
  std::uint64_t seed = 0;
  std::int64_t height = 0, width = 0;  ///< 0 = the model's own
  double noise_scale = 0.0;            ///< 0 = that of the model, scaled with noise_rescale to the size
  std::int64_t batch = 64;  ///< images at a time; image i is the same whatever it is, up to rounding
};

/// The noise levels: steps values from 1 to 0.001, then 0. Throws ValueError for steps < 1.
std::vector<double> euler_levels(int steps);

/// Runs the steps from a given start x [n,c,h,w]; y i32 [n], or undefined for a model without classes. Of the
/// options it uses guidance, guided, sampler and steps. Returns the end, not clamped. Throws ShapeError when the
/// model's prediction has another shape than x.
Tensor integrate_flow(Context& ctx, const Denoiser& model, const Tensor& start, const Tensor& y,
                      const SampleOptions& options);
/// The same by steps of Euler, guided everywhere.
Tensor euler(Context& ctx, const Denoiser& model, const Tensor& start, const Tensor& y, double guidance,
             int steps);

/// The class of every image that sample() draws, in order; empty for a model without classes.
std::vector<std::int32_t> sample_classes(const Denoiser& model, const SampleOptions& options);

/// Draws images [n,channels,height,width], about [-1,1], not clamped, in the model's dtype. n is
/// options.count; where should_stop ended the work, only the images of complete batches are returned, and n
/// may be 0. Progress is counted in steps of all batches. Throws ValueError for options outside their
/// range and a model in stages (Denoiser::cascade), and what integrate_flow() throws.
Tensor sample(Context& ctx, const Denoiser& model, const SampleOptions& options,
              const Callbacks& callbacks = {});

}  // namespace llsa::nn

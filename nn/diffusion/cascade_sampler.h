// Sampling through the stages of growing resolution (cascade.h): Euler steps in each, and between two of them the image
// is enlarged and gets new noise.
//
//   tau_i = linspace(0, 0.999, steps), then 1;   x += (tau_{i+1} - tau_i) v
//   into stage s:   x = a twice(x) + a (1 - o) sqrt(3) n,   a = 1 / (2 - o), o = s / 4
//   guidance in stage s:   1 + (g - 1) {0, 1/6, 2/3, 1}[s]
//
// The four pixels of an enlarged one are equal. The noise n has the covariance 4/3 I - 1/3 11^T in each such square, so that
// together with theirs it is white: n = sqrt(4/3) (z - mean of z over the square), z ~ N(0, 1).
#pragma once

#include <cstdint>
#include <vector>

#include "../../core/context.h"
#include "../../core/function_ref.h"
#include "../../core/tensor.h"
#include "../callbacks.h"
#include "../denoiser.h"

namespace llsa::nn {

struct CascadeSampleOptions {
  std::int64_t count = 1;
  std::int64_t first = 0;  ///< number of the first image: images first .. first + count - 1 are drawn
  /// The class of image i is classes[i % size]; empty = 0, 1, .. in turn. Ignored by a model without classes.
  std::vector<std::int32_t> classes = {};
  double guidance = 2.4;  ///< g, of the last stage
  int steps = 30;         ///< in each stage
  std::uint64_t seed = 0;
  std::int64_t batch = 64;  ///< images at a time; image i is the same whatever it is, up to rounding
};

/// The noise n from z [b,c,h,w]. Throws ShapeError for an odd side.
Tensor square_noise(Context& ctx, const Tensor& z);

/// The start of stage 1..3 from the end of the stage before, x [n,c,h,w], and square_noise n [n,c,2h,2w]. Throws ValueError
/// for another stage.
Tensor enter_stage(Context& ctx, int stage, const Tensor& x, const Tensor& noise);

/// The Euler steps of one stage from x [n,c,h,w], y as in euler(). Returns the end; undefined as soon as after_step, which
/// gets the image after every step, answers false. Throws ValueError for steps < 1, ShapeError like euler().
Tensor cascade_euler(Context& ctx, const Denoiser& model, int stage, const Tensor& x, const Tensor& y,
                     double guidance, int steps, FunctionRef<bool(const Tensor&)> after_step);

/// The class of every image that sample_cascade() draws; empty for a model without classes.
std::vector<std::int32_t> sample_classes(const Denoiser& model, const CascadeSampleOptions& options);

/// Draws images of the model's size, about [-1,1], not clamped, in the model's dtype, and fewer than options.count where
/// should_stop ended the work, as sample() does. Progress is counted in Euler steps of all stages and batches. Throws
/// ValueError for options outside their range and sides that 8 does not divide, and what cascade_euler() throws.
Tensor sample_cascade(Context& ctx, const Denoiser& model, const CascadeSampleOptions& options,
                      const Callbacks& callbacks = {});

}  // namespace llsa::nn

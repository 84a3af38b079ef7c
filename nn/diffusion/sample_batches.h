// What all samplers have in common: guidance, and images in batches. Include it to write a sampler of your own.
#pragma once

#include <cstdint>

#include "../../core/context.h"
#include "../../core/function_ref.h"
#include "../../core/tensor.h"
#include "../callbacks.h"
#include "../denoiser.h"
#include "sampler.h"

namespace llsa::nn {

/// A model's flow with classifier-free guidance, v = v_null + g (v_class - v_null). With g = 1, or a model without
/// classes, it is one model pass; otherwise one batch holds the images with their class, then again without. The model
/// must outlive it.
class GuidedFlow {
 public:
  /// y i32 [n], or undefined for a model without classes.
  GuidedFlow(Context& ctx, const Denoiser& model, std::int64_t n, const Tensor& y, double guidance);
  /// x [n,c,h,w] at the model time t -> v in x's dtype, without gradient; v_class unless `guide`. Throws ShapeError when
  /// the model's prediction has another shape than x.
  Tensor operator()(const Tensor& x, double t, bool guide = true) const;

 private:
  Context& ctx_;
  const Denoiser& model_;
  Tensor classes_;  // [n], or [2n] with guidance
  double guidance_;
  bool guided_;
};

/// Draws the images with the numbers ids i64 [n] and the classes y i32 [n] (undefined without classes). It asks go_on()
/// after every step; if that answers false before the last one, it returns an undefined tensor.
using DrawBatch = FunctionRef<Tensor(const Tensor& ids, const Tensor& y, FunctionRef<bool()> go_on)>;

/// Checks the options and draws options.count images, of which each takes `steps` steps, in batches. Returns what
/// sample() returns.
Tensor sample_batches(Context& ctx, const Denoiser& model, const SampleOptions& options, std::int64_t steps,
                      const Callbacks& callbacks, DrawBatch draw);

}  // namespace llsa::nn

// AdamW with clipping by the global gradient norm, over a model's flat buffers.
//
//   g = grad min(1, clip / (|grad| + 1e-6));   m = b1 m + (1 - b1) g;   v = b2 v + (1 - b2) g^2
//   w = w (1 - lr wd) - lr (m / (1 - b1^n)) / (sqrt(v / (1 - b2^n)) + eps)                  Loshchilov and
//   Hutter, 2019
//
// Norm, learning rate, step and the finite flag live in tensors: a step does not wait for the device. A
// gradient that is not finite leaves weights and moments as they are and clears the flag.
#pragma once

#include <cstdint>

#include "../core/context.h"
#include "parameters.h"

namespace llsa::nn {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 1e-2;
  double clip = 1.0;  ///< largest gradient norm; 0 = no clipping
};

class AdamW {
 public:
  AdamW(ParameterStore& store, const AdamWOptions& options = {});

  /// One update from the store's gradients. Does not zero them.
  void step(double learning_rate);

  /// f64 [1]: norm of the gradient of the last step, before clipping.
  const Tensor& gradient_norm() const { return norm_; }
  /// i32 [1]: 1 while every step so far had a finite gradient.
  const Tensor& finite() const { return finite_; }
  /// i64 [1]: steps done (also on the host).
  const Tensor& step_tensor() const { return step_; }
  std::int64_t steps() const { return steps_; }
  /// First and second moment, in the layout of the store's flat buffers.
  const Tensor& first_moment() const { return m_; }
  const Tensor& second_moment() const { return v_; }
  /// Continues from a saved state; copies. Throws ShapeError for buffers of another layout.
  void restore(const Tensor& first_moment, const Tensor& second_moment, std::int64_t steps);

 private:
  ParameterStore& store_;
  AdamWOptions options_;
  Tensor m_, v_, norm_, finite_, step_, scalars_;
  std::int64_t steps_ = 0;
};

}  // namespace llsa::nn

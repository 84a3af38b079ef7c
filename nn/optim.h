// AdamW with clipping by the global gradient norm, over a model's flat buffers; the average, and the bf16
// copy that a bf16 model computes with, in the same pass.
//
//   g = grad min(1, clip / (|grad| + 1e-6));   m = b1 m + (1 - b1) g;   v = b2 v + (1 - b2) g^2
//   w = w (1 - lr wd) - lr (m / (1 - b1^n)) / (sqrt(v / (1 - b2^n)) + eps)        Loshchilov and Hutter, 2019
//
// Norm, learning rate, step number and the flag of a gradient that is not finite live in tensors, the same
// ones in every step: a step does not wait for the device, and update() may be captured in a graph. A
// gradient that is not finite leaves weights, moments, average and step number as they are.
#pragma once

#include <cstdint>

#include "../core/context.h"
#include "../kernels/optim.h"
#include "ema.h"
#include "parameters.h"

namespace llsa::nn {

struct AdamWOptions {
  kernels::AdamWOptions adam;  ///< beta1, beta2, eps, weight_decay
  double clip = 1.0;           ///< largest gradient norm; 0 = no clipping
};

class AdamW {
 public:
  explicit AdamW(Parameters& store, const AdamWOptions& options = {});

  /// One update from the store's gradients, which stay as they are, and of the average when there is one.
  /// From the first gradient that is not finite on nothing moves any more, so the cause can still be looked
  /// for when the flag is read later.
  void step(double learning_rate, Ema* ema = nullptr) {
    prepare(learning_rate);
    update(ema);
  }
  /// The two halves of step(): what comes from the host, and the work on the device, which is the same
  /// launches on the same addresses each time.
  void prepare(double learning_rate);
  void update(Ema* ema = nullptr);

  /// f64 [1]: norm of the gradient of the last step, before clipping (0 before the first).
  const Tensor& gradient_norm() const { return clip_.norm; }
  /// i32 [1]: 1 when the last step was skipped: its gradient, or an earlier one, was not finite.
  const Tensor& skipped() const { return clip_.skip; }
  /// i64 [1]: updates done; calls of step() minus skipped ones.
  const Tensor& updates() const { return step_; }
  /// Calls of step(), and updates before them if restored.
  std::int64_t calls() const { return calls_; }
  /// How many steps were skipped so far. Waits for the device.
  std::int64_t count_skipped() const;

  /// First and second moment, in the layout of the store's flat buffers.
  const Tensor& first_moment() const { return m_; }
  const Tensor& second_moment() const { return v_; }
  /// Continues from a saved state; copies. Throws ShapeError for buffers of another layout.
  void restore(const Tensor& first_moment, const Tensor& second_moment, std::int64_t updates);

 private:
  Parameters& store_;
  AdamWOptions options_;
  Tensor m_, v_, lr_, step_;
  kernels::ClipResult clip_;
  std::int64_t calls_ = 0;
};

}  // namespace llsa::nn

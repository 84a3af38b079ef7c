// Exponential moving average of the weights, with warm-up.
//
//   after the n-th update (n = 1, 2, ..): average = d average + (1 - d) weights,   d = min(1 - n^-power,
//   max_decay)
//
// n = 1 copies the weights. AdamW::step(lr, &ema) does this in the optimiser's pass over memory.
#pragma once

#include "../kernels/optim.h"
#include "parameters.h"

namespace llsa::nn {

class Ema {
 public:
  /// Starts at the store's present weights.
  explicit Ema(const Parameters& store, const kernels::EmaOptions& options = {});

  /// Takes in the store's present weights as update number n, an i64 [1] tensor.
  void update(const Tensor& n);
  /// The average, in the layout of the store's flat buffers.
  const Tensor& flat() const { return flat_; }
  const kernels::EmaOptions& options() const { return options_; }
  /// Continues from a saved average; copies. Throws ShapeError for a buffer of another layout.
  void restore(const Tensor& flat);

 private:
  const Parameters& store_;
  kernels::EmaOptions options_;
  Tensor flat_;
};

}  // namespace llsa::nn

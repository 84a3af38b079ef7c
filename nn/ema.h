// Exponential moving average of the weights, with warm-up.
#pragma once

#include <cstdint>

#include "parameters.h"

namespace llsa::nn {

/// After the n-th update (n = 1, 2, ..): average = d average + (1 - d) weights, d = min(1 - n^-power, most).
/// n = 1 copies.
double ema_decay(std::int64_t n, double power, double most);

class Ema {
 public:
  explicit Ema(const ParameterStore& store, double power = 0.75, double most = 0.9999);

  /// Takes in the store's present weights. Does not wait for the device.
  void update();
  /// The average, in the layout of the store's flat buffers (the initial weights before the first update).
  const Tensor& flat() const { return flat_; }
  std::int64_t updates() const { return updates_; }
  /// Continues from a saved state; copies. Throws ShapeError for a buffer of another layout.
  void restore(const Tensor& flat, std::int64_t updates);

 private:
  const ParameterStore& store_;
  double power_, most_;
  Tensor flat_, decay_;
  std::int64_t updates_ = 0;
};

}  // namespace llsa::nn

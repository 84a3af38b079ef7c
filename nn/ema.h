// Exponential moving average of the weights, with warm-up.
//
//   after the n-th update (n = 1, 2, ..):   average = d average + (1 - d) weights
//   d = min(1 - n^-power, max_decay)
//
// The first update copies the weights. Without warm-up (EmaOptions::warm_up), d is max_decay from the start, and the average
// begins with the weights that it was made from. An optimiser that is given the average updates it in its own pass over
// memory; update() is a pass of its own. To compute with the average, or to save it, let the parameters hold
// it for a while:
//
//   Ema ema(params);
//   adam.step(1e-3, &ema);
//   ScopedWeights averaged(params, ema.flat());
//
// Which decay is best shows only at the end of a run, so several averages may be kept: keep_beside() adds one that is
// updated whenever this one is. Where processes share the parameters (Parameters::share), each keeps its slice.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../kernels/optim.h"
#include "parameters.h"

namespace llsa::nn {

using kernels::EmaOptions;

class Ema {
 public:
  /// Starts at the present weights. The parameters must outlive the average. Throws ValueError for options out
  /// of range.
  explicit Ema(const Parameters& params, const EmaOptions& options = {});

  /// Keeps another average of the same weights. Throws ValueError for options out of range.
  void keep_beside(const EmaOptions& options);
  /// Those averages, in the order in which they were added.
  const std::vector<std::unique_ptr<Ema>>& others() const { return others_; }
  const EmaOptions& options() const { return options_; }

  /// Updates this average and the others with the present weights.
  void update();
  /// Updates only the others, for an optimiser that updates flat() itself. Does nothing if `skip` (i32 [1], or
  /// undefined) is set.
  void update_others(const Tensor& skip);
  /// The average, in the layout of the parameters' flat buffers; where these are shared, the slice of this process.
  const Tensor& flat() const { return flat_; }
  /// All of the average. Collective where the parameters are shared.
  Tensor whole() const { return params_.slices().whole(params_.context(), flat_); }
  /// i64 [1]: updates done.
  const Tensor& updates() const { return updates_; }
  /// Continues from a saved average after so many updates; copies. `flat` is all of it. Throws ShapeError for a buffer of
  /// another layout, ValueError for a negative number of updates.
  void restore(const Tensor& flat, std::int64_t updates);

  /// Counts an update and returns its d, f64 [1], for an optimiser that writes flat() itself. With `skip` (i32
  /// [1], or undefined) set it does not count.
  Tensor next_decay(const Tensor& skip);

 private:
  Tensor weights() const { return params_.slices().of(params_.flat()); }

  const Parameters& params_;
  EmaOptions options_;
  Tensor flat_, updates_;
  std::vector<std::unique_ptr<Ema>> others_;
};

/// Parses the decay limits of further averages, such as "0.999,0.99"; an empty text has none. Throws ValueError for
/// anything but numbers from 0 to 1, and for a number that occurs twice.
std::vector<double> ema_decays(const std::string& text);

}  // namespace llsa::nn

// Analytic gradients against central differences, in f64.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "var.h"

namespace llsa {

struct GradcheckOptions {
  double step = 1e-5;       ///< h: (f(x + h) - f(x - h)) / 2h, h scaled by max(1, |x|)
  double tolerance = 1e-6;  ///< on |analytic - numeric| / max(1, largest |numeric| of that input)
  std::uint64_t seed = 1;   ///< of the projection
};

struct GradcheckResult {
  bool ok = true;                   ///< every error within the tolerance; a NaN is not
  double worst = 0;                 ///< largest error
  int input = -1;                   ///< where it is: which input,
  std::vector<std::int64_t> index;  ///< and which element of it
  double analytic = 0, numeric = 0;
  std::int64_t checked = 0;  ///< entries compared

  /// "worst 1.2e-09 at input 1 [0,3]: analytic ..., numeric ..., 48 entries"
  std::string str() const;
};

using VarFunction = std::function<std::vector<Var>(const std::vector<Var>&)>;

/// Compares d(sum_o sum(f_o(x) R_o))/dx, R_o fixed standard normal numbers, with central differences in every
/// element of every input whose entry of `differentiable` is true (all, when it is empty). Inputs are f64,
/// otherwise DTypeError; they are not changed. The step and the tolerance suit functions whose values and
/// derivatives are of the order of 1.
GradcheckResult gradcheck(const VarFunction& function, const std::vector<Var>& inputs,
                          const std::vector<bool>& differentiable = {}, const GradcheckOptions& options = {});

}  // namespace llsa

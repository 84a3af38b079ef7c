// Activation checkpointing: memory for time.
#pragma once

#include <functional>
#include <vector>

#include "var.h"

namespace llsa {

/// y = function(inputs), of which only the inputs are saved: backward computes `function` a second time and
/// goes on through what that recorded. Outputs and gradients have the same bits as without. The function must
/// be pure, must take what it differentiates through from its arguments (or from leaves, which it may
/// capture), and must return the same each time; random numbers keyed by counters do. Chen et al., arXiv
/// 1604.06174.
Var recompute(const std::function<Var(const std::vector<Var>&)>& function, const std::vector<Var>& inputs);
/// The same for a function with several outputs.
std::vector<Var> recompute(const std::function<std::vector<Var>(const std::vector<Var>&)>& function,
                           const std::vector<Var>& inputs);

}  // namespace llsa

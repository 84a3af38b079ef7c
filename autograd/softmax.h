// Softmax and log-sum-exp over the last axis.
#pragma once

#include "var.h"

namespace llsa {

/// y_i = e^(x_i) / sum_j e^(x_j), x [...,n]. dx_i = y_i (dy_i - sum_j dy_j y_j); saves y.
Var softmax(const Var& x);
/// l = ln sum_j e^(x_j): [...,n] -> [...]. dx_i = dl e^(x_i - l); saves x and l.
Var log_sum_exp(const Var& x);

}  // namespace llsa

// Convolution.
#pragma once

#include <array>
#include <cstdint>

#include "var.h"

namespace llsa {

/// y[b,o,p,q] = bias[o] + sum over c,i,j of w[o,c,i,j] x[b,c, p stride0 + i - padding0, q stride1 + j -
/// padding1], x being 0 outside; x[b,c,h,w], w[o,c,kh,kw], bias[o] or undefined. With stride = kernel it is a
/// patch embedding. Saves x and w; the unfolded input is made again in backward.
Var conv2d(const Var& x, const Var& w, const Var& bias = {}, std::array<std::int64_t, 2> stride = {1, 1},
           std::array<std::int64_t, 2> padding = {0, 0});

}  // namespace llsa

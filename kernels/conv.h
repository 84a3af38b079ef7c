// Two-dimensional convolution (cross-correlation, as in every deep-learning library), by a library for convolutions or
// by im2col and matrix products.
#pragma once

#include <array>

#include "../core/context.h"

namespace llsa::kernels {

/// y[b,o,p,q] = bias[o] + sum over c,i,j of w[o,c,i,j] x[b,c, p stride0 + i - padding0, q stride1 + j -
/// padding1], x being 0 outside; out_h = floor((h + 2 padding0 - kh) / stride0) + 1. x[b,c,h,w],
/// w[o,c,kh,kw], bias[o] or undefined; f32, bf16, f64. Throws ShapeError (channels, kernel larger than the
/// padded input), ValueError (a stride outside 1 to 2^31, a padding outside 0 to 2^31), DTypeError.
Tensor conv2d(Context& ctx, const Tensor& x, const Tensor& w, const Tensor& bias,
              std::array<std::int64_t, 2> stride = {1, 1}, std::array<std::int64_t, 2> padding = {0, 0});

/// Gradients that were not asked for are undefined.
struct ConvGrads {
  Tensor dx, dw, db;
};

/// It checks nothing: it is called with what the forward took, and with a gradient of y's shape and dtype.
ConvGrads conv2d_backward(Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& w,
                          std::array<std::int64_t, 2> stride, std::array<std::int64_t, 2> padding,
                          bool need_dx = true, bool need_dw = true, bool need_db = true);

}  // namespace llsa::kernels

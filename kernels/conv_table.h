// The two halves of a convolution around a matrix product, as the backends provide them.
#pragma once

#include <array>

#include "../core/context.h"

namespace llsa::kernels {

/// A two-dimensional convolution of x[b,c,h,w].
struct ConvGeometry {
  std::int64_t batch = 0, channels = 0, height = 0, width = 0;
  std::array<std::int64_t, 2> kernel = {1, 1}, stride = {1, 1}, padding = {0, 0};
  std::int64_t out_height = 0, out_width = 0;

  std::int64_t patch() const { return channels * kernel[0] * kernel[1]; }
};

/// Some of the output: rows [row, row + rows) of images [image, image + images).
struct ConvSlice {
  std::int64_t image = 0, images = 0, row = 0, rows = 0;
};

/// f32 or f64, everything contiguous.
struct ConvBackend {
  /// cols[image, (c,i,j), (p,q)] = the input under kernel element (i,j) of channel c at output position (p,q)
  /// of the slice, 0 in the padding. One more line than patch(), if cols has it, becomes ones (for the bias).
  void (*im2col)(Context& ctx, const ConvGeometry& geometry, const ConvSlice& slice, const Tensor& x,
                 const Tensor& cols);
  /// The adjoint: adds cols into dx. cols has patch() lines.
  void (*col2im)(Context& ctx, const ConvGeometry& geometry, const ConvSlice& slice, const Tensor& cols,
                 const Tensor& dx);
};

}  // namespace llsa::kernels

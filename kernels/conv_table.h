// The two halves of a convolution around a matrix product, as the backends provide them.
#pragma once

#include <array>

#include "../core/context.h"

namespace llsa::kernels {

/// A two-dimensional convolution of x[b,c,h,w]; output positions are numbered over (image, out_h, out_w).
struct ConvGeometry {
  std::int64_t batch = 0, channels = 0, height = 0, width = 0;
  std::array<std::int64_t, 2> kernel = {1, 1}, stride = {1, 1}, padding = {0, 0};
  std::int64_t out_height = 0, out_width = 0;

  std::int64_t positions() const { return batch * out_height * out_width; }
  std::int64_t patch() const { return channels * kernel[0] * kernel[1]; }
};

struct ConvBackend {
  /// cols[r, (c,i,j)] = the input under kernel element (i,j) of channel c at position first + r, 0 in the
  /// padding. x and cols contiguous.
  void (*im2col)(Context& ctx, const ConvGeometry& geometry, const Tensor& x, std::int64_t first,
                 const Tensor& cols);
  /// The adjoint: adds cols into dx, whose dtype is that of sums (f32 for bf16). Both contiguous.
  void (*col2im)(Context& ctx, const ConvGeometry& geometry, const Tensor& cols, std::int64_t first,
                 const Tensor& dx);
};

}  // namespace llsa::kernels

// Convolution, as the backends provide it: the two halves around a matrix product, and, by a library, whole.
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

/// Everything contiguous.
struct ConvBackend {
  // f32 or f64
  /// cols[image, (c,i,j), (p,q)] = the input under kernel element (i,j) of channel c at output position (p,q)
  /// of the slice, 0 in the padding. One more line than patch(), if cols has it, becomes ones (for the bias).
  void (*im2col)(Context& ctx, const ConvGeometry& geometry, const ConvSlice& slice, const Tensor& x,
                 const Tensor& cols);
  /// The adjoint: adds cols into dx. cols has patch() lines.
  void (*col2im)(Context& ctx, const ConvGeometry& geometry, const ConvSlice& slice, const Tensor& cols,
                 const Tensor& dx);

  // The whole of it, or one of its gradients, f32, bf16 or f64. False where the library declines, which it
  // does by kind of convolution and always in the same way: im2col is to do it, and results are undefined.
  // Null where there is no library.
  bool (*forward)(Context& ctx, const ConvGeometry& geometry, const Tensor& x, const Tensor& w,
                  const Tensor& bias, const Tensor& y);  ///< bias may be undefined
  bool (*input_gradient)(Context& ctx, const ConvGeometry& geometry, const Tensor& dy, const Tensor& w,
                         const Tensor& dx);
  bool (*weight_gradient)(Context& ctx, const ConvGeometry& geometry, const Tensor& dy, const Tensor& x,
                          const Tensor& dw);
};

}  // namespace llsa::kernels

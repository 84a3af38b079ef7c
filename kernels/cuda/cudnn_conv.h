// CUDA convolution by cuDNN, where the build has it; contracts in kernels/conv_table.h. Without it, all three
// decline.
#pragma once

#include "../conv_table.h"

namespace llsa::kernels::cuda {

bool convolve(Context& ctx, const ConvGeometry& geometry, const Tensor& x, const Tensor& w,
              const Tensor& bias, const Tensor& y);
bool convolve_input_gradient(Context& ctx, const ConvGeometry& geometry, const Tensor& dy, const Tensor& w,
                             const Tensor& dx);
bool convolve_weight_gradient(Context& ctx, const ConvGeometry& geometry, const Tensor& dy, const Tensor& x,
                              const Tensor& dw);

}  // namespace llsa::kernels::cuda

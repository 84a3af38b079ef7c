// CUDA im2col and col2im; contracts in kernels/conv_table.h.
#pragma once

#include "../conv_table.h"

namespace llsa::kernels::cuda {

void im2col(Context& ctx, const ConvGeometry& geometry, const ConvSlice& slice, const Tensor& x,
            const Tensor& cols);
void col2im(Context& ctx, const ConvGeometry& geometry, const ConvSlice& slice, const Tensor& cols,
            const Tensor& dx);

}  // namespace llsa::kernels::cuda

// CUDA matrix products; contracts in kernels/matmul_table.h.
#pragma once

#include "../matmul_table.h"

namespace llsa::kernels::cuda {

void matmul(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& out);
void linear(Context& ctx, const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y,
            const Tensor& pre);
void linear_backward(Context& ctx, const LinearBackwardArgs& args);

}  // namespace llsa::kernels::cuda

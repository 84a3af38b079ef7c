// CUDA softmax and log-sum-exp; contracts in kernels/softmax_table.h.
#pragma once

#include "../softmax_table.h"

namespace llsa::kernels::cuda {

void softmax(Context& ctx, const Tensor& x, const Tensor& y);
void softmax_backward(Context& ctx, const Tensor& dy, const Tensor& y, const Tensor& dx);
void log_sum_exp(Context& ctx, const Tensor& x, const Tensor& l);
void log_sum_exp_backward(Context& ctx, const Tensor& dl, const Tensor& x, const Tensor& l, const Tensor& dx);

}  // namespace llsa::kernels::cuda

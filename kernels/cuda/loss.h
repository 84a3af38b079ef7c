// CUDA losses; contracts in kernels/loss_table.h.
#pragma once

#include "../loss_table.h"

namespace llsa::kernels::cuda {

void mse(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& loss);
void mse_backward(Context& ctx, const Tensor& dloss, const Tensor& a, const Tensor& b, const Tensor& da);
void cross_entropy(Context& ctx, const Tensor& logits, const Tensor& labels, const Tensor& loss);
void cross_entropy_backward(Context& ctx, const Tensor& dloss, const Tensor& logits, const Tensor& labels,
                            const Tensor& dlogits);

}  // namespace llsa::kernels::cuda

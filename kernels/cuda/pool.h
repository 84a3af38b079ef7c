// CUDA block means; contracts in kernels/pool_table.h.
#pragma once

#include "../pool_table.h"

namespace llsa::kernels::cuda {

void mean_pool(Context& ctx, const Tensor& x, std::int64_t block, const Tensor& y);
void mean_pool_backward(Context& ctx, const Tensor& dy, std::int64_t block, const Tensor& dx);

}  // namespace llsa::kernels::cuda

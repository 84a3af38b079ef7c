// CUDA reductions; contract in kernels/reduce_table.h.
#pragma once

#include "../reduce_table.h"

namespace llsa::kernels::cuda {

void reduce(Context& ctx, ReduceOp op, const Tensor& x, const Tensor& y);

}  // namespace llsa::kernels::cuda

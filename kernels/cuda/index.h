// CUDA rows by number; contracts in kernels/index_table.h.
#pragma once

#include "../index_table.h"

namespace llsa::kernels::cuda {

void gather_rows(Context& ctx, const char* op, const Tensor& x, const Tensor& numbers, const Tensor& y);
void scatter_rows(Context& ctx, const char* op, const Tensor& dy, const Tensor& numbers,
                  const Tensor& dtable);
void inverse_order(Context& ctx, const Tensor& order, const Tensor& inverse);

}  // namespace llsa::kernels::cuda

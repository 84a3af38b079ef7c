#pragma once

#include "../copy_table.h"

namespace llsa::kernels::cuda {

void copy(Context& ctx, const Tensor& src, const Tensor& dst);
void fill(Context& ctx, const Tensor& dst, double value);

}  // namespace llsa::kernels::cuda

// CPU copies; contracts in kernels/copy_table.h.
#pragma once

#include "../copy_table.h"

namespace llsa::kernels::cpu {

void copy(Context& ctx, const Tensor& src, const Tensor& dst);
void fill(Context& ctx, const Tensor& dst, double value);

}  // namespace llsa::kernels::cpu

// CUDA full attention; contracts in kernels/attention_table.h.
#pragma once

#include "../attention_table.h"

namespace llsa::kernels::cuda {

void attention(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& o,
               const Tensor& lse);
void attention_backward(Context& ctx, const Tensor& d_o, const Tensor& q, const Tensor& k, const Tensor& v,
                        const Tensor& o, const Tensor& lse, const Tensor& dq, const Tensor& dk,
                        const Tensor& dv);

}  // namespace llsa::kernels::cuda

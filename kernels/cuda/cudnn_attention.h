// CUDA full attention by cuDNN, where the build has it together with the headers of cudnn-frontend; contracts
// in kernels/attention_table.h. Without them, both decline.
#pragma once

#include "../attention_table.h"

namespace llsa::kernels::cuda {

std::string cudnn_attention(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& o,
                            const Tensor& lse);
std::string cudnn_attention_backward(Context& ctx, const Tensor& d_o, const Tensor& q, const Tensor& k,
                                     const Tensor& v, const Tensor& o, const Tensor& lse, const Tensor& dq,
                                     const Tensor& dk, const Tensor& dv, std::int64_t most_memory);

}  // namespace llsa::kernels::cuda

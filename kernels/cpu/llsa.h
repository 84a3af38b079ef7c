// CPU stages of LLSA; contracts in kernels/backend/attention.h.
#pragma once

#include "../llsa_operands.h"

namespace llsa::kernels::cpu {

void llsa_pyramid(Context& ctx, const Tensor& x, const LlsaPlan& plan, const std::vector<Tensor>& levels);
void llsa_select(Context& ctx, const LlsaPlan& plan, const std::vector<Tensor>& q,
                 const std::vector<Tensor>& k, const std::vector<Tensor>& index, std::vector<Tensor>& words);
void index_transpose(Context& ctx, const Tensor& index, std::int64_t keys, const Tensor& offset,
                     const Tensor& query);
void llsa_attend(Context& ctx, const LlsaOperands& args, const Tensor& o, const Tensor& lse);
void llsa_attend_backward(Context& ctx, const LlsaOperands& args, const Tensor& d_o, const Tensor& o,
                          const Tensor& lse, const Tensor& dq, const Tensor& dk, const Tensor& dv);

}  // namespace llsa::kernels::cpu

// Attention over an attended set, for any B, K, N, L, L_e, D and dtype: the readable kernels, which the
// tensor-core ones are held against and give way to for all that those do not cover. L = 0 is full attention.
#pragma once

#include "../../../llsa_operands.h"
#include "../terms.h"

namespace llsa::kernels::cuda {

void attend_plain(Context& ctx, const LlsaOperands& args, const Tensor& o, const Tensor& lse);
/// The gradient of q; the gradients of k and v, with what the levels above pass down.
void queries_backward_plain(Context& ctx, const LlsaOperands& args, const Tensor& d_o,
                            const QueryTerms& terms, const Tensor& dq);
void keys_backward_plain(Context& ctx, const LlsaOperands& args, const Tensor& d_o, const QueryTerms& terms,
                         const Tensor& dk, const Tensor& dv);

}  // namespace llsa::kernels::cuda

// Attention on tensor cores: bf16 with f32 accumulation, D = 32, 64 or 128, B a power of two from 16 to 64,
// or full attention. Contracts as of the plain kernels.
#pragma once

#include "../../../llsa_operands.h"
#include "../terms.h"

namespace llsa::kernels::cuda {

/// Whether these kernels can take the problem: dtype, D, B (kernels/llsa_tensor_cores.h), and 16-byte
/// alignment of all rows. `o` is O in the forward, dO in the backward.
bool fits_mma(const LlsaOperands& args, const Tensor& o);

void attend_mma(Context& ctx, const LlsaOperands& args, const Tensor& o, const Tensor& lse);
/// The gradient of q.
void queries_backward_mma(Context& ctx, const LlsaOperands& args, const Tensor& d_o, const QueryTerms& terms,
                          const Tensor& dq);
/// The gradients of k and v, with what the levels above pass down; dO's rows aligned as fits_mma wants O's.
void keys_backward_mma(Context& ctx, const LlsaOperands& args, const Tensor& d_o, const QueryTerms& terms,
                       const Tensor& dk, const Tensor& dv);

}  // namespace llsa::kernels::cuda

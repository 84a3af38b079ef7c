// LLSA forward and backward: which kernels take a problem. These, with their maths, tiling and bounds, are in
// llsa_mma_*.cu and llsa_plain_*.cu: O in one launch; backward the terms and dQ, a launch each, then lists by
// key, and dK and dV level by level.
#include "kernels/cuda/llsa.h"
#include "kernels/cuda/llsa_mma.h"
#include "kernels/cuda/llsa_plain.h"
#include "kernels/cuda/llsa_terms.h"

namespace llsa::kernels::cuda {

void llsa_attend(Context& ctx, const LlsaOperands& args, const Tensor& o, const Tensor& lse) {
  (fits_mma(args, o) ? attend_mma : attend_plain)(ctx, args, o, lse);
}

void llsa_attend_backward(Context& ctx, const LlsaOperands& args, const Tensor& d_o, const Tensor& o,
                          const Tensor& lse, const Tensor& dq, const Tensor& dk, const Tensor& dv) {
  const QueryTerms terms = query_terms(ctx, d_o, o, lse);
  const bool mma = fits_mma(args, d_o);
  (mma ? queries_backward_mma : queries_backward_plain)(ctx, args, d_o, terms, dq);
  (mma ? keys_backward_mma : keys_backward_plain)(ctx, args, d_o, terms, dk, dv);
}

}  // namespace llsa::kernels::cuda

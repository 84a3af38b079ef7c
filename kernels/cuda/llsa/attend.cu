// LLSA forward and backward: which kernels take a problem. These, with their maths, tiling and bounds, are in
// mma/ and plain/: O in one launch; backward the terms and dQ, a launch each, then lists by
// key, and dK and dV level by level.
#include "kernels/backend/attention.h"
#include "kernels/cuda/llsa/llsa.h"
#include "kernels/cuda/llsa/mma/mma.h"
#include "kernels/cuda/llsa/plain/plain.h"
#include "kernels/cuda/llsa/terms.h"

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

constinit const LlsaBackend kLlsa = {.pyramid = llsa_pyramid,
                                     .select = llsa_select,
                                     .transpose = index_transpose,
                                     .attend = llsa_attend,
                                     .attend_backward = llsa_attend_backward};

}  // namespace llsa::kernels::cuda

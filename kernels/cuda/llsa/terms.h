// What the backward kernels need besides the operands.
#pragma once

#include "../../llsa.h"
#include "../../llsa_operands.h"

namespace llsa::kernels::cuda {

/// Per query, [b,H,N] f32 (f64 for f64). The one convention of all backward kernels: LSE in base 2.
struct QueryTerms {
  Tensor lse2;   ///< LSE log2(e)
  Tensor delta;  ///< sum(O dO)
};
QueryTerms query_terms(Context& ctx, const Tensor& d_o, const Tensor& o, const Tensor& lse);

/// [l - 1]: the transpose of I_l, queries ascending, for those levels whose keys get gradients through it:
/// l = 1 .. L_e + 1, at most L. From bit words (index/words.h), or sorted where there are none
/// and more than one level. Throws ShapeError for tables with more than 2^31 - 1 entries per head.
std::vector<IndexTranspose> transposed_levels(Context& ctx, const LlsaOperands& args);

}  // namespace llsa::kernels::cuda

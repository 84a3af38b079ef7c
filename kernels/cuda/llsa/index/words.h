// Bit words: the hierarchical index of the picks below the coarsest level (LlsaIndices::words), which the
// attention by query reads as it is and the gradients by key as lists.
#pragma once

#include "../../../llsa.h"
#include "../../../llsa_operands.h"

namespace llsa::kernels::cuda {

/// Room for R_1 .. R_{L-1} beside the tables index[l - 1] = I_l; none where B > 64.
std::vector<Tensor> empty_words(Context& ctx, const LlsaPlan& plan, const std::vector<Tensor>& index);

/// R_l from I_l and I_{l+1}, for a selection that writes tables only. Every pick of I_l must be a child of a
/// pick of the parent's row.
void mark_words(Context& ctx, const LlsaPlan& plan, const Tensor& table, const Tensor& above,
                const Tensor& words);

/// [l - 1]: the transpose of I_l for l = 1..L, equal to index_transpose's, from I_1 .. I_L and R_1 ..
/// R_{L-1}.
std::vector<IndexTranspose> transpose_by_words(Context& ctx, const LlsaPlan& plan,
                                               const std::vector<Tensor>& index,
                                               const std::vector<Tensor>& words);

}  // namespace llsa::kernels::cuda

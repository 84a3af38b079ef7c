// By-key lists of all levels of a plan, made without a sort from bit words: a second way to what
// index_transpose makes of each table alone.
#pragma once

#include "../llsa.h"
#include "../llsa_table.h"

namespace llsa::kernels::cuda {

/// Whether the tables of this plan can be written as words: one level, or B <= 64.
bool fits_words(const LlsaPlan& plan);

/// [l - 1]: the transpose of I_l for l = 1..L, equal to index_transpose's, of tables index[l - 1] = I_l,
/// i32 [b,H,n_l,w_l]. They may come from elsewhere than llsa_select: entries outside [0, n_l) count as
/// unused, and picks that are no children of the parent's picks cost time, not correctness. Rows must be
/// strictly ascending, as llsa_attention wants them; those that are not give unspecified lists of existing
/// queries.
std::vector<IndexTranspose> transpose_by_words(Context& ctx, const LlsaPlan& plan,
                                               const std::vector<Tensor>& index);

}  // namespace llsa::kernels::cuda

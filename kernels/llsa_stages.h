// The stages of LLSA one by one: for study, for tests, and for index tables from elsewhere. llsa_attention
// (llsa.h) runs all of them and pools every tensor once.
#pragma once

#include "llsa.h"

namespace llsa::kernels {

/// level[l - 1] = I_l, i32 [b,H,n_l,w_l]: the tokens of level l that each query token of level l picked,
/// ascending. Unused places at the end of a row hold -1.
struct LlsaIndices {
  std::vector<Tensor> level;
};

/// An index table by key: the queries that picked key j are query[offset[j] .. offset[j + 1]), ascending.
struct IndexTranspose {
  Tensor offset;  ///< i32 [b,H,keys + 1]
  Tensor query;   ///< i32 [b,H,rows * width]; the part after offset[keys] is unspecified
};

/// level[l - 1] is the transpose of I_l.
struct LlsaTranspose {
  std::vector<IndexTranspose> level;
};

/// Means X^(l)[i] of the c_l[i] fine tokens that token i covers, for levels 1..L of the plan or 1..last:
/// [b,H,n_l,D] of x's dtype. Sums stay in f32 (f64 for f64) through all levels, in a fixed order, and are
/// rounded once.
std::vector<Tensor> llsa_pyramid(Context& ctx, const Tensor& x, const LlsaPlan& plan);
std::vector<Tensor> llsa_pyramid(Context& ctx, const Tensor& x, const LlsaPlan& plan, int last);

/// Index tables from q, k [b,H,N,D]. The score of a key is Q^(l)[i] . K^(l)[j]. I_L holds the min(K_L, n_L)
/// best of all j; below, I_l holds the min(K_l, |C|) best of the candidates C, the children of the parent's
/// picks. Ties go to the lower index. A NaN is picked only where numbers run out. With plan.own, i itself is always
/// picked, which is a candidate because its ancestors were, and the other places go to the best of the rest.
LlsaIndices llsa_select(Context& ctx, const Tensor& q, const Tensor& k, const LlsaPlan& plan);
/// The same from the pyramids of q and k, levels 1..L.
LlsaIndices llsa_select(Context& ctx, const std::vector<Tensor>& q, const std::vector<Tensor>& k,
                        const LlsaPlan& plan);

/// The tables that llsa_attention selected.
LlsaIndices llsa_indices(const LlsaState& state);

/// Transpose of one index table, i32 [b,H,rows,width] with entries in [0, keys) and -1 for unused places.
/// Throws ValueError for other entries.
IndexTranspose index_transpose(Context& ctx, const Tensor& index, std::int64_t keys);

/// Transposes of all levels.
LlsaTranspose llsa_transpose(Context& ctx, const LlsaIndices& indices, const LlsaPlan& plan);

/// Attention over given picks, from llsa_select or elsewhere. Rows have to be ascending, in range, and hold
/// -1 at their ends only: the CPU throws ValueError for others, a CUDA device ignores entries that are out of
/// range. llsa_attention_backward takes the state of the result.
LlsaResult llsa_attend(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                       const LlsaIndices& indices, const LlsaPlan& plan);

/// Attention over the picks of an earlier llsa_attention, with whatever else its selection made for the
/// device.
LlsaResult llsa_attend(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                       const LlsaState& selected);

}  // namespace llsa::kernels

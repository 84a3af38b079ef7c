// Log-linear Sparse Attention (Zhou et al., arXiv 2512.16615) for any N, B, K, L: O(N K log N) work, O(N)
// memory.
//
// Stages, each callable on its own:
//
//     llsa_pyramid    block means of the tokens, level by level
//     llsa_select     pooled queries choose pooled keys, coarsest level first: the index tables
//     llsa_transpose  which queries chose a key: the same tables by key (CSR to CSC)
//     llsa_attention  one softmax over fine tokens under the picks and coarse tokens met on the way
//     llsa_attention_backward
//
// Whoever runs several of them on the same tokens pools once: select, attention and backward take pyramids,
// too.
//
// The plan (llsa_plan.h) fixes all sizes. Selection has no gradient; pooling is linear, so fine keys and
// values collect the gradients of the coarse tokens that cover them. With L = 0 everything is full attention.
// Results do not depend on the number of threads, bit for bit.
#pragma once

#include <vector>

#include "attention.h"
#include "llsa_plan.h"

namespace llsa::kernels {

/// level[l - 1] = I_l, i32 [b,H,n_l,w_l]: the tokens of level l that query token i of level l picked,
/// ascending; unused places at the end of a row hold -1.
///
/// words[l - 1] = R_l for l = 1..L-1, the same picks as bit words, u8 [b,H,n_{l+1},w_{l+1} B,bytes]: bit r of
/// word (i', s B + c) is set where child r of query token i' picked child c of the key in place s of row i'
/// of I_{l+1}. Words are integers of 2, 4 or 8 bytes for B <= 16, 32 or 64 (llsa_word_bytes). llsa_select
/// makes them where kernels read them, on CUDA devices with B <= 64; elsewhere the list is empty, and it is
/// to be left empty beside tables that llsa_select did not make or that were changed.
struct LlsaIndices {
  std::vector<Tensor> level;
  std::vector<Tensor> words = {};
};

/// An index table by key: queries that hold key j are query[offset[j] .. offset[j + 1]), ascending.
struct IndexTranspose {
  Tensor offset;  ///< i32 [b,H,keys + 1]
  Tensor query;   ///< i32 [b,H,rows * width], the part after offset[keys] unspecified
};

/// level[l - 1] is the transpose of I_l.
struct LlsaTranspose {
  std::vector<IndexTranspose> level;
};

/// Means X^(l)[i] of the c_l[i] fine tokens under token i, levels 1..L of the plan or 1..last: [b,H,n_l,D] of
/// x's dtype. Sums stay in f32 (f64 for f64) through all levels, in a fixed order, and are rounded once.
std::vector<Tensor> llsa_pyramid(Context& ctx, const Tensor& x, const LlsaPlan& plan);
std::vector<Tensor> llsa_pyramid(Context& ctx, const Tensor& x, const LlsaPlan& plan, int last);

/// Coarse keys and values as attention reads them: k[l - 1], v[l - 1] [b,H,n_l,D] are K^(l), V^(l) for levels
/// 1..L_e; what there is of higher levels is not used.
struct LlsaCoarse {
  std::vector<Tensor> k, v;
};

/// Index tables from q, k [b,H,N,D]. Score Q^(l)[i] . K^(l)[j]; I_L: the min(K_L, n_L) best of all j; below,
/// the min(K_l, |C|) best of the candidates C, the children of the parent's picks. Ties go to the lower
/// index; a NaN is picked only where numbers run out.
LlsaIndices llsa_select(Context& ctx, const Tensor& q, const Tensor& k, const LlsaPlan& plan);
/// The same from the pyramids of q and k, levels 1..L.
LlsaIndices llsa_select(Context& ctx, const std::vector<Tensor>& q, const std::vector<Tensor>& k,
                        const LlsaPlan& plan);

/// Transpose of one index table, i32 [b,H,rows,width] with entries in [0, keys) and -1 for unused places.
/// Throws ValueError for other entries.
IndexTranspose index_transpose(Context& ctx, const Tensor& index, std::int64_t keys);

/// Transposes of all levels.
LlsaTranspose llsa_transpose(Context& ctx, const LlsaIndices& indices, const LlsaPlan& plan);

/// Attention over the set that the indices span (from llsa_select or elsewhere; checked to be in range,
/// ascending, -1 only at row ends; words are taken to agree with them): O[q] = sum_j w_j exp(q.k_j/sqrt(D))
/// v_j / sum_j w_j exp(q.k_j/sqrt(D)), with w_j = 1 for fine tokens and c_l[j] for those of level l (1
/// without reweight).
AttentionResult llsa_attention(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                               const LlsaIndices& indices, const LlsaPlan& plan);
/// The same with coarse keys and values given.
AttentionResult llsa_attention(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                               const LlsaCoarse& coarse, const LlsaIndices& indices, const LlsaPlan& plan);

/// Gradients of llsa_attention with the indices held fixed; o and lse are its results.
AttentionGrads llsa_attention_backward(Context& ctx, const Tensor& d_o, const Tensor& q, const Tensor& k,
                                       const Tensor& v, const Tensor& o, const Tensor& lse,
                                       const LlsaIndices& indices, const LlsaPlan& plan);
/// The same with coarse keys and values given. They are functions of k and v: dk and dv hold their part.
AttentionGrads llsa_attention_backward(Context& ctx, const Tensor& d_o, const Tensor& q, const Tensor& k,
                                       const Tensor& v, const LlsaCoarse& coarse, const Tensor& o,
                                       const Tensor& lse, const LlsaIndices& indices, const LlsaPlan& plan);

}  // namespace llsa::kernels

// Attention: full, and LLSA.
//
// q [b,H,N,D], k and v [b,H,M,D] (M = N for LLSA) with unit stride in D; o [b,H,N,D] is the view of [b,N,H,D]
// memory, so that reshape(permute(o, {0,2,1,3}), {b,N,C}) copies nothing. Saved: q, k, v, o, lse, never
// anything of size N x M.
#pragma once

#include "../kernels/llsa.h"
#include "var.h"

namespace llsa {

/// O = softmax(Q K^T / sqrt(D)) V. With P the softmax, dP = dO V^T, dS = P (dP - sum(O dO)): dQ = dS K /
/// sqrt(D), dK = dS^T Q / sqrt(D), dV = P^T dO; P is computed again, tile by tile, from lse. Dao et al.,
/// arXiv 2205.14135.
Var full_attention(const Var& q, const Var& k, const Var& v);

/// Log-linear Sparse Attention (Zhou et al., arXiv 2512.16615; kernels/llsa.h): plan, selection of keys for
/// pooled queries, one softmax over fine tokens under the picks and coarse tokens met on the way. The
/// selection has no gradient; pooling has. Saves the indices, coarse keys and coarse values, too. With zero
/// levels this is full attention. Throws ValueError for options that do not fit N.
Var llsa_attention(const Var& q, const Var& k, const Var& v, const kernels::LlsaOptions& options);

/// The same with given indices, from kernels::llsa_select or elsewhere.
Var llsa_attention(const Var& q, const Var& k, const Var& v, const kernels::LlsaIndices& indices,
                   const kernels::LlsaPlan& plan);

}  // namespace llsa

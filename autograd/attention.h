// Attention: full attention, and LLSA.
//
// q [b,H,N,D], k and v [b,H,M,D] (M = N for LLSA) with unit stride in D. o [b,H,N,D] is the view of [b,N,H,D]
// memory, so that reshape(permute(o, {0,2,1,3}), {b,N,C}) copies nothing. Saved: q, k, v, o, lse, never
// anything of size N x M.
#pragma once

#include "../kernels/llsa_stages.h"
#include "var.h"

namespace llsa {

/// O = softmax(Q K^T / sqrt(D)) V; with options.causal, query t sees the keys s <= t + M - N only. With P the
/// softmax, dP = dO V^T, dS = P (dP - sum(O dO)): dQ = dS K / sqrt(D), dK = dS^T Q / sqrt(D), dV = P^T dO; P
/// is computed again, tile by tile, from lse. Dao et al., arXiv 2205.14135. Throws ShapeError, DTypeError,
/// and DeviceError if a library is asked for by name and declines.
Var full_attention(const Var& q, const Var& k, const Var& v, const FullAttentionOptions& options = {});

/// Log-linear Sparse Attention (Zhou et al., arXiv 2512.16615; kernels/llsa.h): pooled queries pick blocks of
/// keys, then one softmax runs over the fine tokens below the picks and the coarse tokens met on the way. The
/// selection has no gradient; pooling has. Saves the picks and the coarse keys and values, too. With zero
/// levels this is full attention. Throws ValueError for options that do not fit N.
Var llsa_attention(const Var& q, const Var& k, const Var& v, const LlsaOptions& options = {});

/// The same over given picks, from kernels::llsa_select or elsewhere.
Var llsa_attend(const Var& q, const Var& k, const Var& v, const kernels::LlsaIndices& indices,
                const LlsaPlan& plan);

}  // namespace llsa

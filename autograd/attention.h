// Attention: full attention, LLSA, and the two methods that LLSA is compared with, VSA and SLA.
//
// q [b,H,N,D], k and v [b,H,M,D] (M = N for LLSA) with unit stride in D. o [b,H,N,D] is the view of [b,N,H,D]
// memory, so that reshape(permute(o, {0,2,1,3}), {b,N,C}) copies nothing. Saved: q, k, v, o, lse, never
// anything of size N x M.
#pragma once

#include "../kernels/linear_attention.h"
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

/// Options of vsa_attention and sla_attention: block size B >= 2 and blocks that each block picks, K >= 1.
struct VsaOptions {
  int block = 16;
  int topk = 20;
};
struct SlaOptions {
  int block = 16;
  int topk = 20;
};

/// Video Sparse Attention (arXiv 2505.13389): O = O_c gate + O_s. O_c is full attention of the block means of q
/// over those of k and v, repeated for the tokens of a block. The same scores pick K blocks, without gradient,
/// and O_s is attention over their tokens. gate [b,H,N,D] is elementwise; undefined, it is 1. A composition of
/// mean_pool, full_attention and llsa_attend; any N >= 1. Throws ShapeError, DTypeError, ValueError for options.
Var vsa_attention(const Var& q, const Var& k, const Var& v, const Var& gate, const VsaOptions& options = {});

/// Sparse-Linear Attention (arXiv 2509.24006): O = O_s + O_l W^T + b, with W [D,D] and b [D] for all heads. O_s
/// is attention over the K blocks that mean(q) . mean(k) picks; O_l is linear attention over the other blocks,
///     O_l[t] = sum_s (phi(q_t) . phi(k_s)) v_s / sum_s (phi(q_t) . phi(k_s)),   phi = softmax over D,
/// and 0 where all blocks are picked. O_l is computed in f32 for bf16. Any N >= 1. Throws like vsa_attention.
Var sla_attention(const Var& q, const Var& k, const Var& v, const Var& weight, const Var& bias,
                  const SlaOptions& options = {});

/// y[t] = sum of (a[t] . b[s]) c[s] over the tokens s of the blocks that block t / B did not pick; a, b
/// [b,H,N,E], c [b,H,N,F] in f32 or f64, picks i32 [b,H,ceil(N/B),w]. Gradients as in
/// kernels/linear_attention.h, no NxN; saves a, b, c, picks.
Var linear_attention_rest(const Var& a, const Var& b, const Var& c, std::int64_t block, const Tensor& picks);

}  // namespace llsa

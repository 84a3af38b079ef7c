// The key-value half of the backward pass of attention over picked blocks, in two ways that differ in one thing: how
// a block of keys finds the blocks of queries that picked it. By a dense mask, it looks at all of them. By the
// transpose of the index table, as in the library, it reads a list of those. All else is shared: the tiles are those
// of the library's CPU backend. On the CPU, in f32.
#pragma once

#include "kernels/llsa_stages.h"

namespace llsa::apps {

/// What both ways are given: the table of picks of a plan with L = 1 and L_e = 0, and what the forward pass left.
struct KeyValueInputs {
  LlsaPlan plan;
  Tensor index;    ///< i32 [b,H,n,w], n = ceil(N / B)
  Tensor q, k, v;  ///< f32 [b,H,N,D]
  Tensor o, lse;   ///< f32 [b,H,N,D] and, contiguous, [b,H,N]
  Tensor d_o;      ///< f32 [b,H,N,D]
};

struct KeyValueGrads {
  Tensor dk, dv;  ///< f32 [b,H,N,D]
};

/// With P = exp(Q K^T / sqrt(D) - lse) over the pairs of blocks of the table and dP = dO V^T:
/// dV = P^T dO, dK = (P (dP - sum(o dO)))^T Q / sqrt(D). Makes the transpose first: O(n w) for a head.
KeyValueGrads key_value_backward_by_transpose(Context& ctx, const KeyValueInputs& in);
/// The same bits. Makes the mask first, u8 [b H,n,n], keys before queries: O(n^2) for a head, like the scan of it.
KeyValueGrads key_value_backward_by_mask(Context& ctx, const KeyValueInputs& in);

}  // namespace llsa::apps

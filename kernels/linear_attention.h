// Linear attention over the blocks that index tables leave out: the part of Sparse-Linear Attention (SLA, Zhang
// et al., arXiv 2509.24006) that has kernels of its own.
//
//     y[t] = sum over the tokens s of the blocks that block t / B did not pick of (a[t] . b[s]) c[s]
//
// Without softmax the sum can be taken before the query is known: with one matrix S_j = sum of b[s]^T c[s] for
// every block j, y[t] = a[t] (sum of the S_j that were not picked). Work: N E F for the matrices and for the
// products, and one addition of a matrix for every pick; memory: N E F / B numbers for as many heads as fit into
// a fixed space, at least one.
//
// y is linear in a, b and c, and each gradient is the same kind of sum, over the same pairs of blocks:
//
//     da[t] = sum_s (dy[t] . c[s]) b[s]
//     db[s] = sum_t (c[s] . dy[t]) a[t],   dc[s] = sum_t (b[s] . a[t]) dy[t]      over the blocks that did not
//                                                                                  pick the block of s
//
// The sum of the matrices that were not picked is taken directly, in ascending order, if a row picked at least a
// quarter of the blocks. Otherwise it is the total of all blocks minus the picked ones, in f64 on the CPU and in
// pairs of floats on CUDA devices: in f32, the difference would lose all digits where few small blocks remain.
#pragma once

#include "llsa_stages.h"

namespace llsa::kernels {

/// a, b [b,H,N,E], c [b,H,N,F], f32 or f64; picks i32 [b,H,n,w], n = ceil(N / block): the blocks that each block
/// picked, ascending, unused places -1. Returns y [b,H,N,F], the view of [b,N,H,F] memory. Throws ShapeError,
/// DTypeError, DeviceError, ValueError for block < 1, and on the CPU for entries that are out of range or do not
/// ascend; a CUDA device ignores entries that are out of range.
Tensor linear_attention_rest(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& c,
                             std::int64_t block, const Tensor& picks);

struct LinearAttentionGrads {
  Tensor da, db, dc;
};
/// Contiguous gradients; the arguments are those of the forward and are not checked again. Throws ShapeError or
/// DTypeError for dy.
LinearAttentionGrads linear_attention_rest_backward(Context& ctx, const Tensor& dy, const Tensor& a,
                                                    const Tensor& b, const Tensor& c, std::int64_t block,
                                                    const Tensor& picks);

/// Floating-point operations over the n = ceil(N / B) blocks of a plan with w picks each (picked_blocks_plan): two
/// products of N E F, and an addition of E F for each block that is picked or each that is not, whichever are
/// fewer. The backward pass has three such sums.
AttentionFlops linear_attention_rest_flops(const LlsaPlan& plan, std::int64_t batch_heads, std::int64_t e,
                                           std::int64_t f);

}  // namespace llsa::kernels

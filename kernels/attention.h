// Full softmax attention: exact, computed tile by tile, with memory linear in the number of tokens. (Where a
// library computes the backward pass, it may take 2 b H N M bytes, up to 1 GiB.)
//
//     O[t] = sum_s exp(q_t . k_s / sqrt(D)) v_s / sum_s exp(q_t . k_s / sqrt(D))
//
// The sums run over all keys or, in causal attention, over the keys that query t sees.
//
// Inputs of this file and of llsa.h are head-major, [b,H,N,D]. Their strides on b, H and N are free, and D
// has unit stride, so views of a fused projection need no copy. The output is [b,N,H,D] in memory and is
// returned as its [b,H,N,D] view: merging the heads afterwards is free. Scores, softmax and sums are f32 (f64
// for f64).
#pragma once

#include "../core/context.h"

namespace llsa {

/// Whose kernels compute full attention. Either kind can run the backward pass of the other's forward pass.
enum class AttentionKernels : std::uint8_t {
  automatic,  ///< a library's where the backend has one that takes the problem, otherwise our own
  own,
  library  ///< however much memory they take; DeviceError where no library takes the problem
};

/// Options of full_attention.
struct FullAttentionOptions {
  /// Query t of N sees the keys s <= t + M - N of M: the last query sees all keys. Needs M >= N. Other keys
  /// are left out and not multiplied by 0, so a NaN in a later k or v does not reach an earlier row.
  bool causal = false;
  AttentionKernels kernels = AttentionKernels::automatic;
};

namespace kernels {

/// o [b,H,N,D] of the inputs' dtype; lse [b,H,N] f32 (f64 for f64 inputs): the natural logarithm of the
/// softmax denominator, with 1/sqrt(D) and all weights inside.
struct AttentionResult {
  Tensor o;
  Tensor lse;
};

/// Contiguous, of the inputs' dtype: dq [b,H,N,D]; dk, dv [b,H,M,D].
struct AttentionGrads {
  Tensor dq;
  Tensor dk;
  Tensor dv;
};

/// Attention of q [b,H,N,D] over k, v [b,H,M,D], M >= 1. f32, bf16, f64. Throws ShapeError, DTypeError,
/// DeviceError.
AttentionResult full_attention(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                               const FullAttentionOptions& options = {});

/// Gradients, with P the softmax, dP = dO V^T and dS = P (dP - sum(O dO)):
/// dq = dS K / sqrt(D), dk = dS^T Q / sqrt(D), dv = P^T dO. P is recomputed tile by tile from lse.
///
/// q, k and v are the arguments of a full_attention call, o and lse its results, and options.causal is as
/// there: none of them is checked again. Throws ShapeError, DTypeError or DeviceError for d_o.
AttentionGrads full_attention_backward(Context& ctx, const Tensor& d_o, const Tensor& q, const Tensor& k,
                                       const Tensor& v, const Tensor& o, const Tensor& lse,
                                       const FullAttentionOptions& options = {});

/// Uninitialised results for queries q [b,H,N,D], in the memory layout that is described above.
AttentionResult empty_attention(Context& ctx, const Tensor& q);

/// Floating-point operations, where a multiplication and an addition count as two. With P pairs of a query
/// and a key that it sees, the forward pass has 2 products of P D and the backward pass 5 (scores, dP, dV,
/// dQ, dK), whatever an implementation computes a second time.
struct AttentionFlops {
  double selection = 0;  ///< scores of the candidates; LLSA only
  double forward = 0;
  double backward = 0;
};
/// b H = batch_heads, n queries, m keys.
AttentionFlops full_attention_flops(std::int64_t batch_heads, std::int64_t n, std::int64_t m, std::int64_t d,
                                    bool causal = false);

}  // namespace kernels
}  // namespace llsa

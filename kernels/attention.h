// Full softmax attention: exact, tiled, memory linear in the number of tokens. Where a library computes the backward
// pass, it may take 2 b H N M bytes, up to 1 GiB.
//
//     O[i] = sum_j exp(q_i . k_j / sqrt(D)) v_j / sum_j exp(q_i . k_j / sqrt(D))
//
// Inputs of this file and of llsa.h are head-major, [b,H,N,D], with any strides on b, H and N and unit stride
// on D, so that views of a fused projection need no copy. The output is [b,N,H,D] in memory, returned as its
// [b,H,N,D] view: merging the heads afterwards is free. Scores, softmax and sums run in f32 (f64 for f64).
#pragma once

#include "../core/context.h"

namespace llsa::kernels {

/// o [b,H,N,D] of the inputs' dtype; lse [b,H,N] f32 (f64 for f64 inputs): natural logarithm of the softmax
/// denominator, with 1/sqrt(D) and all weights inside. The backward pass needs both.
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

/// Whose kernels compute full attention. Either continues from what the other has computed.
enum class AttentionKernels : std::uint8_t {
  automatic,  ///< a library's where the backend has one that takes the problem, else our own
  own,
  library  ///< however much memory they take; DeviceError where there are none for the problem
};

/// Attention of q [b,H,N,D] over k, v [b,H,M,D], M >= 1. f32, bf16, f64. Throws ShapeError, DTypeError,
/// DeviceError.
AttentionResult full_attention(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                               AttentionKernels kernels = AttentionKernels::automatic);

/// Gradients, with P the softmax, dP = dO V^T and dS = P (dP - sum(O dO)):
/// dq = dS K / sqrt(D), dk = dS^T Q / sqrt(D), dv = P^T dO. P is recomputed tile by tile from lse. It checks
/// nothing: q, k, v, o and lse are those of the forward, d_o has o's shape and dtype.
AttentionGrads full_attention_backward(Context& ctx, const Tensor& d_o, const Tensor& q, const Tensor& k,
                                       const Tensor& v, const Tensor& o, const Tensor& lse,
                                       AttentionKernels kernels = AttentionKernels::automatic);

/// Floating-point operations of full attention, a multiplication and an addition counted as two.
/// forward: 2 products of b H N M D; backward: 5 (scores, dP, dV, dQ, dK), whatever an implementation
/// recomputes on top of that.
struct AttentionFlops {
  double selection = 0;  ///< LLSA only: scores of the candidates
  double forward = 0;
  double backward = 0;
};
AttentionFlops full_attention_flops(std::int64_t batch_heads, std::int64_t n, std::int64_t m, std::int64_t d);

}  // namespace llsa::kernels

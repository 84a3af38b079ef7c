// Log-linear Sparse Attention (Zhou et al., arXiv 2512.16615) for any N, B, K, L: O(N K log N) work, O(N)
// memory.
//
//     pool       block means of q, k and v, level by level
//     select     pooled queries pick pooled keys, coarsest level first; no gradient
//     attend     one softmax over the fine tokens below the picks and the coarse tokens met on the way:
//
//     O[t] = sum_s w_s exp(q_t . k_s / sqrt(D)) v_s / sum_s w_s exp(q_t . k_s / sqrt(D))
//
// with w_s = 1 for a fine token and w_s = c_l[s] for a token of level l (1 without reweight). The plan
// (llsa_plan.h) fixes all sizes. With L = 0 this is full attention. Each stage can be called by itself
// (llsa_stages.h). Results do not depend on the number of threads, bit for bit.
#pragma once

#include <memory>
#include <vector>

#include "attention.h"
#include "llsa_plan.h"

namespace llsa::kernels {

/// What llsa_attention keeps for its backward pass: inputs, results, the plan, the picks, coarse keys and
/// values. Its members are a matter of the backends (backend/attention.h).
struct LlsaState;

struct LlsaResult {
  Tensor o;    ///< [b,H,N,D] of the inputs' dtype
  Tensor lse;  ///< [b,H,N] f32 (f64 for f64 inputs), as of full_attention
  std::shared_ptr<const LlsaState> state;
};

/// LLSA of q, k, v [b,H,N,D]; f32, bf16, f64. Throws ShapeError, DTypeError, DeviceError, and ValueError for
/// options that do not fit N.
LlsaResult llsa_attention(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                          const LlsaOptions& options = {});

/// Gradients with the picks held fixed. Pooling is linear, so dk and dv include the gradients of the coarse
/// tokens: a fine token gets 1/c_l of those of the token of level l that covers it.
AttentionGrads llsa_attention_backward(Context& ctx, const Tensor& d_o, const LlsaState& state);

/// All tensors that a state keeps alive.
std::vector<Tensor> tensors_of(const LlsaState& state);

}  // namespace llsa::kernels

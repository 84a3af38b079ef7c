// What fused ops compute, written in ordinary ops: the tests hold the kernels and their backward against
// these.
#pragma once

#include "op_table.h"

namespace llsa::definitions {

Vars sub(const OpSample& sample, const Vars& x);
Vars div(const OpSample& sample, const Vars& x);
Vars maximum(const OpSample& sample, const Vars& x);
Vars minimum(const OpSample& sample, const Vars& x);
Vars clamp(const OpSample& sample, const Vars& x);
Vars where(const OpSample& sample, const Vars& x);
Vars square(const OpSample& sample, const Vars& x);
Vars tanh(const OpSample& sample, const Vars& x);
Vars sigmoid(const OpSample& sample, const Vars& x);
Vars silu(const OpSample& sample, const Vars& x);
Vars gelu_tanh(const OpSample& sample, const Vars& x);
Vars mean(const OpSample& sample, const Vars& x);

Vars matmul(const OpSample& sample, const Vars& x);  ///< sums of products by broadcasting
Vars matmul_ta(const OpSample& sample, const Vars& x);
Vars matmul_tb(const OpSample& sample, const Vars& x);
Vars matmul_tab(const OpSample& sample, const Vars& x);
Vars linear(const OpSample& sample, const Vars& x);
Vars mlp(const OpSample& sample, const Vars& x);
Vars conv(const OpSample& sample, const Vars& x);     ///< one matrix product per kernel element
Vars patches(const OpSample& sample, const Vars& x);  ///< one matrix product of flattened patches

Vars softmax(const OpSample& sample, const Vars& x);
Vars log_sum_exp(const OpSample& sample, const Vars& x);
Vars layer_norm(const OpSample& sample, const Vars& x);
Vars layer_norm_plain(const OpSample& sample, const Vars& x);
Vars rms_norm(const OpSample& sample, const Vars& x);
Vars layer_norm_modulate(const OpSample& sample, const Vars& x);
Vars gate_residual(const OpSample& sample, const Vars& x);
Vars gate_norm_modulate(const OpSample& sample, const Vars& x);
Vars rope(const OpSample& sample, const Vars& x);
Vars qkv_split(const OpSample& sample, const Vars& x);
Vars qkv_split_plain(const OpSample& sample, const Vars& x);

Vars embedding(const OpSample& sample, const Vars& x);  ///< product with one-hot rows
Vars gather_tokens(const OpSample& sample, const Vars& x);
Vars mean_pool(const OpSample& sample, const Vars& x);
Vars mse(const OpSample& sample, const Vars& x);
Vars cross_entropy(const OpSample& sample, const Vars& x);

Vars full_attention(const OpSample& sample, const Vars& x);
/// Full attention in which keys s > t + M - N get the bias -infinity.
Vars causal_attention(const OpSample& sample, const Vars& x);
/// Dense softmax over fine and pooled tokens; what is not attended gets the bias -infinity, coarse tokens the
/// bias ln c.
Vars llsa_attention(const OpSample& sample, const Vars& x);

/// Dense products over all pairs of tokens, where the pairs of picked blocks are multiplied by 0.
Vars linear_attention_rest(const OpSample& sample, const Vars& x);
/// Their published formulas, with dense softmaxes and masks.
Vars vsa_attention(const OpSample& sample, const Vars& x);
Vars sla_attention(const OpSample& sample, const Vars& x);

constexpr double kEps = 1e-5;                   ///< of all norms in the table
constexpr double kLow = -0.625, kHigh = 0.875;  ///< of clamp in the table; exact in every dtype
constexpr std::int64_t kPoolBlock = 4;          ///< of mean_pool in the table

}  // namespace llsa::definitions

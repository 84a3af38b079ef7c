// Multi-head self-attention as one layer: one product for q, k and v, RMS norm of q and k, RoPE, full
// attention or LLSA, output projection.
#pragma once

#include <optional>
#include <string>

#include "../kernels/llsa.h"
#include "../kernels/rope.h"
#include "parameters.h"

namespace llsa::nn {

struct AttentionOptions {
  int heads = 1;
  int head_dim = 32;
  /// Log-linear sparse attention with these options; full attention without.
  std::optional<LlsaOptions> llsa = {};
  bool causal = false;   ///< a token attends to itself and those before it; full attention only
  bool qk_norm = false;  ///< RMS norm of q and k per head, eps 1e-5
  bool bias = true;      ///< of q, k and v; the output projection always has one
  Init weight_init = Init::fan_in();
  Init bias_init = Init::fan_in();
};

/// Softmax attention of the tokens x [b,N,C] among themselves, C = heads head_dim. The parameters have the
/// names of the diffusers layout: name.to_q, to_k, to_v and to_out.0 with .weight and .bias, and
/// name.norm_q.weight, name.norm_k.weight with qk_norm.
class Attention {
 public:
  /// Throws ValueError for causal attention by LLSA, or without a head.
  Attention(Parameters& params, const std::string& name, const AttentionOptions& options);

  /// x [b,N,C] -> [b,N,C]. A table for the N tokens in their order (nn/rope_table.h) turns q and k; without
  /// one, attention does not see where a token stands. Throws ShapeError for another x.
  Var operator()(const Var& x, const kernels::RopeTable& table = {}) const;

 private:
  int heads_;
  std::optional<LlsaOptions> llsa_;
  bool causal_;
  Var qkv_weight_, qkv_bias_;  // [3C,C], [3C]
  Var q_norm_, k_norm_;        // [D], or undefined
  Var out_weight_, out_bias_;
};

}  // namespace llsa::nn

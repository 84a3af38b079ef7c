// Multi-head self-attention as one module: fused q, k, v projection, qk-norm, RoPE, full attention or LLSA,
// output projection.
#pragma once

#include <string>
#include <vector>

#include "../kernels/rope.h"
#include "dit_config.h"
#include "parameters.h"

namespace llsa::nn {

/// softmax attention of kind full or llsa over tokens x [b,N,C]. Parameters (published names): to_q, to_k,
/// to_v, to_out.0, norm_q.weight, norm_k.weight.
class Attention {
 public:
  struct Options {
    int heads = 1;
    int head_dim = 32;
    bool bias = true;     ///< of q, k and v
    bool qk_norm = true;  ///< RMSNorm of q and k per head, eps 1e-5
    AttentionKind kind = AttentionKind::full;
    kernels::LlsaOptions llsa;
  };

  /// Weights and biases by the published law (uniform in 1/sqrt(fan_in)) or Xavier with zero biases.
  static void declare(std::vector<ParameterSpec>& specs, const std::string& name, const Options& options,
                      InitKind init);
  Attention(const ParameterStore& store, const std::string& name, const Options& options);

  /// x [b,N,C], table for its N tokens in their order -> [b,N,C].
  Var operator()(const Var& x, const kernels::RopeTable& table) const;

 private:
  Options options_;
  Var qkv_weight_, qkv_bias_;  // [3C,C], [3C]
  Var q_norm_, k_norm_;        // [D]
  Var out_weight_, out_bias_;
};

}  // namespace llsa::nn

// Multi-head self-attention as one layer: one product for q, k and v, RMS norm of q and k, RoPE, attention of one
// of four kinds, output projection.
#pragma once

#include <string>
#include <variant>

#include "../autograd/attention.h"
#include "../autograd/rope.h"
#include "modules.h"
#include "parameters.h"

namespace llsa::nn {

/// Names of the parameters, below that of the layer: those of the diffusers layout unless another one is asked for.
struct AttentionNames {
  std::string q = "to_q", k = "to_k", v = "to_v", out = "to_out.0", q_norm = "norm_q", k_norm = "norm_k";
};

struct AttentionOptions {
  int heads = 1;
  int head_dim = 32;
  /// The kind of attention, by the options of its op.
  std::variant<FullAttentionOptions, LlsaOptions, VsaOptions, SlaOptions> kind = {};
  bool vsa_gate = true;       ///< VSA: the layer has a gate; without one, O_c counts in full
  bool qk_norm = false;       ///< RMS norm of q and k
  bool norm_per_head = true;  ///< of the D channels of a head; false: of all C channels, before the split
  double norm_eps = 1e-5;
  bool bias = true;  ///< of q, k and v; the output projection always has one
  Init weight_init = Init::fan_in();
  Init bias_init = Init::fan_in();
  AttentionNames names = {};
};

/// Attention of the tokens x [b,N,C] among themselves, C = heads head_dim. The parameters are name.to_q, to_k, to_v and
/// to_out.0 with .weight and .bias, and name.norm_q.weight, name.norm_k.weight with qk_norm. VSA's gate is a linear
/// layer of x, name.to_gate_compress [C,C]; SLA's projection of the linear part is name.proj_l [D,D]. Both start at
/// zero, so that O = O_s at first.
class Attention {
 public:
  /// Throws ValueError without a head.
  Attention(Parameters& params, const std::string& name, const AttentionOptions& options);

  /// x [b,N,C] -> [b,N,C]. A table for the N tokens in their order (nn/rope_table.h) turns q and k; without
  /// one, attention does not see where a token stands. With `full` it is full attention whatever the kind.
  /// Throws ShapeError for another x.
  Var operator()(const Var& x, const kernels::RopeTable& table = {}, bool full = false) const;

 private:
  QkvVars project(const Var& x, const kernels::RopeTable& table) const;
  Var attend(const Var& x, const QkvVars& heads) const;

  int heads_;
  std::variant<FullAttentionOptions, LlsaOptions, VsaOptions, SlaOptions> kind_;
  Var qkv_weight_, qkv_bias_;  // [3C,C], [3C]
  bool norm_per_head_;
  double norm_eps_;
  Var q_norm_, k_norm_;  // [D], or [C] if not per head, or undefined
  Var out_weight_, out_bias_;
  Linear gate_, proj_l_;  // of VSA and SLA, otherwise undefined
};

}  // namespace llsa::nn

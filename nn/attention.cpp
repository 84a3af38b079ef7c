// The attention layer.
#include "nn/attention.h"

#include "autograd/matmul.h"
#include "autograd/norm.h"
#include "autograd/view.h"

namespace llsa::nn {

Attention::Attention(Parameters& params, const std::string& name, const AttentionOptions& options)
    : heads_(options.heads),
      kind_(options.kind),
      norm_per_head_(options.norm_per_head),
      norm_eps_(options.norm_eps) {
  if (options.heads < 1 || options.head_dim < 1)
    throw ValueError(cat("[attention] expected at least one head of at least one channel, got ",
                         options.heads, " of ", options.head_dim));
  const std::int64_t d = options.head_dim;
  const std::int64_t c = heads_ * d;
  const AttentionNames& names = options.names;
  const Init weight = options.weight_init.for_fans(c, c);
  const Init bias = options.bias_init.for_fans(c, c);
  if (options.qk_norm) {
    const Shape shape{norm_per_head_ ? d : c};
    q_norm_ = params.declare(name + "." + names.q_norm + ".weight", shape, Init::ones());
    k_norm_ = params.declare(name + "." + names.k_norm + ".weight", shape, Init::ones());
  }
  const auto three = [&](const std::string& end, const Shape& part, const Init& init, const Shape& all) {
    return params.declare_joined({{name + "." + names.q + end, part, init},
                                  {name + "." + names.k + end, part, init},
                                  {name + "." + names.v + end, part, init}},
                                 all);
  };
  qkv_weight_ = three(".weight", Shape{c, c}, weight, Shape{3 * c, c});
  if (options.bias) qkv_bias_ = three(".bias", Shape{c}, bias, Shape{3 * c});
  out_weight_ = params.declare(name + "." + names.out + ".weight", Shape{c, c}, weight);
  out_bias_ = params.declare(name + "." + names.out + ".bias", Shape{c}, bias);
  const LinearOptions zero = {.weight_init = Init::zeros(), .bias_init = Init::zeros()};
  if (std::holds_alternative<VsaOptions>(kind_) && options.vsa_gate)
    gate_ = Linear(params, name + ".to_gate_compress", c, c, zero);
  if (std::holds_alternative<SlaOptions>(kind_)) proj_l_ = Linear(params, name + ".proj_l", d, d, zero);
}

Var Attention::operator()(const Var& x, const kernels::RopeTable& table, bool full) const {
  if (x.shape().rank() != 3 || x.shape()[2] != out_bias_.shape()[0])
    throw ShapeError(cat("[attention] expected x of shape [b,N,C], C = heads head_dim = ",
                         out_bias_.shape()[0], ", got ", x.shape()));
  const QkvVars heads = project(x, table);
  const Var o = full ? full_attention(heads.q, heads.k, heads.v) : attend(x, heads);
  // The attention writes [b,N,H,D] memory, so merging the heads is a view.
  const Var merged = reshape(permute(o, {0, 2, 1, 3}), x.shape());
  return linear(merged, out_weight_, out_bias_);
}

// q, k, v [b,H,N,D], normalised and turned.
QkvVars Attention::project(const Var& x, const kernels::RopeTable& table) const {
  const Var qkv = linear(x, qkv_weight_, qkv_bias_);  // [b,N,3C]
  if (norm_per_head_ || !q_norm_.defined()) return qkv_split(qkv, heads_, q_norm_, k_norm_, norm_eps_, table);
  const auto parts = chunk(qkv, 3, 2);
  const auto split = [&](const Var& part) {
    return permute(reshape(part, {x.size(0), x.size(1), heads_, x.size(2) / heads_}), {0, 2, 1, 3});
  };
  const auto turned = [&](const Var& part, const Var& weight) {
    const Var head = split(rms_norm(part, weight, norm_eps_));
    return table.defined() ? rope(head, table) : head;
  };
  return {turned(parts[0], q_norm_), turned(parts[1], k_norm_), split(parts[2])};
}

Var Attention::attend(const Var& x, const QkvVars& heads) const {
  const auto& [q, k, v] = heads;
  if (const auto* llsa = std::get_if<LlsaOptions>(&kind_)) return llsa_attention(q, k, v, *llsa);
  if (const auto* sla = std::get_if<SlaOptions>(&kind_))
    return sla_attention(q, k, v, proj_l_.weight(), proj_l_.bias(), *sla);
  if (const auto* vsa = std::get_if<VsaOptions>(&kind_)) {
    if (!gate_.weight().defined()) return vsa_attention(q, k, v, {}, *vsa);
    const Var gate = reshape(gate_(x), {x.size(0), x.size(1), heads_, q.size(3)});  // [b,N,H,D]
    return vsa_attention(q, k, v, permute(gate, {0, 2, 1, 3}), *vsa);
  }
  return full_attention(q, k, v, std::get<FullAttentionOptions>(kind_));
}

}  // namespace llsa::nn

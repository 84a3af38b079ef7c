// The attention layer.
#include "nn/attention.h"

#include "autograd/matmul.h"
#include "autograd/rope.h"
#include "autograd/view.h"

namespace llsa::nn {
namespace {

constexpr double kNormEps = 1e-5;

}  // namespace

Attention::Attention(Parameters& params, const std::string& name, const AttentionOptions& options)
    : heads_(options.heads), kind_(options.kind) {
  if (options.heads < 1 || options.head_dim < 1)
    throw ValueError(cat("[attention] expected at least one head of at least one channel, got ",
                         options.heads, " of ", options.head_dim));
  const std::int64_t d = options.head_dim;
  const std::int64_t c = heads_ * d;
  const Init weight = options.weight_init.for_fans(c, c);
  const Init bias = options.bias_init.for_fans(c, c);
  if (options.qk_norm) {
    q_norm_ = params.declare(name + ".norm_q.weight", Shape{d}, Init::ones());
    k_norm_ = params.declare(name + ".norm_k.weight", Shape{d}, Init::ones());
  }
  const auto three = [&](const std::string& end, const Shape& part, const Init& init, const Shape& all) {
    return params.declare_joined({{name + ".to_q" + end, part, init},
                                  {name + ".to_k" + end, part, init},
                                  {name + ".to_v" + end, part, init}},
                                 all);
  };
  qkv_weight_ = three(".weight", Shape{c, c}, weight, Shape{3 * c, c});
  if (options.bias) qkv_bias_ = three(".bias", Shape{c}, bias, Shape{3 * c});
  out_weight_ = params.declare(name + ".to_out.0.weight", Shape{c, c}, weight);
  out_bias_ = params.declare(name + ".to_out.0.bias", Shape{c}, bias);
  const LinearOptions zero = {.weight_init = Init::zeros(), .bias_init = Init::zeros()};
  if (std::holds_alternative<VsaOptions>(kind_) && options.vsa_gate)
    gate_ = Linear(params, name + ".to_gate_compress", c, c, zero);
  if (std::holds_alternative<SlaOptions>(kind_)) proj_l_ = Linear(params, name + ".proj_l", d, d, zero);
}

Var Attention::operator()(const Var& x, const kernels::RopeTable& table) const {
  if (x.shape().rank() != 3 || x.shape()[2] != out_bias_.shape()[0])
    throw ShapeError(cat("[attention] expected x of shape [b,N,C], C = heads head_dim = ",
                         out_bias_.shape()[0], ", got ", x.shape()));
  const Var qkv = linear(x, qkv_weight_, qkv_bias_);                             // [b,N,3C]
  const auto heads = qkv_split(qkv, heads_, q_norm_, k_norm_, kNormEps, table);  // [b,H,N,D]
  const Var o = attend(x, heads.q, heads.k, heads.v);
  // The attention writes [b,N,H,D] memory, so merging the heads is a view.
  const Var merged = reshape(permute(o, {0, 2, 1, 3}), x.shape());
  return linear(merged, out_weight_, out_bias_);
}

Var Attention::attend(const Var& x, const Var& q, const Var& k, const Var& v) const {
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

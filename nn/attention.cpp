// The attention module.
#include "nn/attention.h"

#include "autograd/attention.h"
#include "autograd/matmul.h"
#include "autograd/rope.h"
#include "autograd/view.h"

namespace llsa::nn {
namespace {

constexpr double kNormEps = 1e-5;

}  // namespace

void Attention::declare(std::vector<ParameterSpec>& specs, const std::string& name, const Options& options,
                        InitKind init) {
  const std::int64_t c = static_cast<std::int64_t>(options.heads) * options.head_dim;
  const bool published = init == InitKind::published;
  const Init weight = published ? Init::fan_in(c) : Init::xavier(c, c);
  const Init bias = published ? Init::fan_in(c) : Init::zeros();
  if (options.qk_norm) {
    specs.push_back({name + ".norm_q.weight", Shape{options.head_dim}, Init::ones()});
    specs.push_back({name + ".norm_k.weight", Shape{options.head_dim}, Init::ones()});
  }
  // Adjacent, so that the three projections are one product.
  specs.push_back({name + ".to_q.weight", Shape{c, c}, weight});
  specs.push_back({name + ".to_k.weight", Shape{c, c}, weight, true});
  specs.push_back({name + ".to_v.weight", Shape{c, c}, weight, true});
  if (options.bias) {
    specs.push_back({name + ".to_q.bias", Shape{c}, bias});
    specs.push_back({name + ".to_k.bias", Shape{c}, bias, true});
    specs.push_back({name + ".to_v.bias", Shape{c}, bias, true});
  }
  specs.push_back({name + ".to_out.0.weight", Shape{c, c}, weight});
  specs.push_back({name + ".to_out.0.bias", Shape{c}, bias});
}

Attention::Attention(const ParameterStore& store, const std::string& name, const Options& options)
    : options_(options) {
  if (options.kind == AttentionKind::automatic)
    throw ValueError("[attention] expected the kind full or llsa, got auto",
                     "resolve the configuration first");
  const std::int64_t c = static_cast<std::int64_t>(options.heads) * options.head_dim;
  const auto three = [&name](const char* end) {
    return std::vector<std::string>{name + ".to_q" + end, name + ".to_k" + end, name + ".to_v" + end};
  };
  qkv_weight_ = store.joined(three(".weight"), Shape{3 * c, c});
  if (options.bias) qkv_bias_ = store.joined(three(".bias"), Shape{3 * c});
  if (options.qk_norm) {
    q_norm_ = store.at(name + ".norm_q.weight");
    k_norm_ = store.at(name + ".norm_k.weight");
  }
  out_weight_ = store.at(name + ".to_out.0.weight");
  out_bias_ = store.at(name + ".to_out.0.bias");
}

Var Attention::operator()(const Var& x, const kernels::RopeTable& table) const {
  const Var qkv = linear(x, qkv_weight_, qkv_bias_);                                     // [b,N,3C]
  const auto heads = qkv_split(qkv, options_.heads, q_norm_, k_norm_, kNormEps, table);  // [b,H,N,D]
  const Var o = options_.kind == AttentionKind::llsa
                    ? llsa_attention(heads.q, heads.k, heads.v, options_.llsa)
                    : full_attention(heads.q, heads.k, heads.v);
  // The attention writes [b,N,H,D] memory, so merging the heads is a view.
  const Var merged = reshape(permute(o, {0, 2, 1, 3}), x.shape());
  return linear(merged, out_weight_, out_bias_);
}

}  // namespace llsa::nn

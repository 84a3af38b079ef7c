// The attention layer.
#include "nn/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "autograd/attention.h"
#include "autograd/elementwise.h"
#include "autograd/matmul.h"
#include "autograd/rope.h"
#include "autograd/softmax.h"
#include "autograd/view.h"
#include "kernels/copy.h"

namespace llsa::nn {
namespace {

constexpr double kNormEps = 1e-5;

/// softmax(Q K^T / sqrt(D) + mask) V, where the mask [N,N] is -infinity for keys after the query.
Var causal_attention(const Var& q, const Var& k, const Var& v) {
  Context& ctx = q.context();
  const std::int64_t n = q.size(2);
  std::vector<float> mask(static_cast<std::size_t>(n * n), 0.0f);
  for (std::int64_t i = 0; i < n; ++i)
    std::fill(mask.begin() + i * n + i + 1, mask.begin() + (i + 1) * n,
              -std::numeric_limits<float>::infinity());
  const Var hidden(ctx, kernels::cast(ctx, kernels::from_vector(ctx, mask, Shape{n, n}), q.dtype()));
  const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(3)));
  return matmul(softmax(matmul(q, k, false, true) * scale + hidden), v);
}

}  // namespace

Attention::Attention(Parameters& params, const std::string& name, const AttentionOptions& options)
    : heads_(options.heads), llsa_(options.llsa), causal_(options.causal) {
  if (options.heads < 1 || options.head_dim < 1)
    throw ValueError(cat("[attention] expected at least one head of at least one channel, got ",
                         options.heads, " of ", options.head_dim));
  if (options.causal && options.llsa)
    throw ValueError("[attention] expected full attention where it is causal, got options of LLSA",
                     "leave AttentionOptions::llsa empty");
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
}

Var Attention::operator()(const Var& x, const kernels::RopeTable& table) const {
  const Var qkv = linear(x, qkv_weight_, qkv_bias_);                             // [b,N,3C]
  const auto heads = qkv_split(qkv, heads_, q_norm_, k_norm_, kNormEps, table);  // [b,H,N,D]
  const Var o = llsa_     ? llsa_attention(heads.q, heads.k, heads.v, *llsa_)
                : causal_ ? causal_attention(heads.q, heads.k, heads.v)
                          : full_attention(heads.q, heads.k, heads.v);
  // The attention writes [b,N,H,D] memory, so merging the heads is a view.
  const Var merged = reshape(permute(o, {0, 2, 1, 3}), x.shape());
  return linear(merged, out_weight_, out_bias_);
}

}  // namespace llsa::nn

// Attention ops.

#include "autograd/attention.h"

#include <algorithm>

#include "autograd/copy.h"
#include "autograd/elementwise.h"
#include "autograd/matmul.h"
#include "autograd/node.h"
#include "autograd/pool.h"
#include "autograd/softmax.h"
#include "autograd/view.h"
#include "kernels/copy.h"

namespace llsa {
namespace {

void add_gradients(BackwardStep& step, kernels::AttentionGrads grads) {
  step.add(0, std::move(grads.dq));
  step.add(1, std::move(grads.dk));
  step.add(2, std::move(grads.dv));
}

void full_attention_backward(BackwardStep& step) {
  const auto& options = step.attributes<FullAttentionOptions>();
  add_gradients(step,
                kernels::full_attention_backward(step.context(), step.take_dy(), step.saved(0), step.saved(1),
                                                 step.saved(2), step.saved(3), step.saved(4), options));
}

using LlsaStatePtr = std::shared_ptr<const kernels::LlsaState>;

void llsa_attention_backward(BackwardStep& step) {
  const kernels::LlsaState& state = *step.attributes<LlsaStatePtr>();
  add_gradients(step, kernels::llsa_attention_backward(step.context(), step.take_dy(), state));
}

/// The backward pass reads the state; its tensors are listed as saved ones so that saved_report() counts
/// them.
Var record_llsa(const Var& q, const Var& k, const Var& v, const kernels::LlsaResult& result) {
  return record("llsa_attention", {&q, &k, &v}, result.o, llsa_attention_backward, tensors_of(*result.state),
                result.state);
}

struct RestAttributes {
  std::int64_t block;
};

void linear_attention_rest_backward(BackwardStep& step) {
  auto grads = kernels::linear_attention_rest_backward(
      step.context(), step.take_dy(), step.saved(0), step.saved(1), step.saved(2),
      step.attributes<RestAttributes>().block, step.saved(3));
  step.add(0, std::move(grads.da));
  step.add(1, std::move(grads.db));
  step.add(2, std::move(grads.dc));
}

/// [b,H,N,D] <-> [b,N,H,D]
Var swap_heads(const Var& x) { return permute(x, {0, 2, 1, 3}); }

/// Rows x [b,n,H,D] of blocks, repeated for their tokens: [b,N,H,D].
Var rows_of_tokens(const Var& x, std::int64_t tokens, std::int64_t block) {
  const std::int64_t b = x.size(0), n = x.size(1), c = x.size(2) * x.size(3);
  const std::int64_t times = std::min(block, tokens);
  const Var repeated = reshape(expand(reshape(x, {b, n, 1, c}), {b, n, times, c}), {b, n * times, c});
  return reshape(slice(repeated, 1, 0, tokens), {b, tokens, x.size(2), x.size(3)});
}

}  // namespace

Var full_attention(const Var& q, const Var& k, const Var& v, const FullAttentionOptions& options) {
  const auto result = kernels::full_attention(q.context(), q.value(), k.value(), v.value(), options);
  return record("full_attention", {&q, &k, &v}, result.o, full_attention_backward,
                saving(q.value(), k.value(), v.value(), result.o, result.lse), options);
}

Var llsa_attention(const Var& q, const Var& k, const Var& v, const LlsaOptions& options) {
  return record_llsa(q, k, v, kernels::llsa_attention(q.context(), q.value(), k.value(), v.value(), options));
}

Var llsa_attend(const Var& q, const Var& k, const Var& v, const kernels::LlsaIndices& indices,
                const LlsaPlan& plan) {
  return record_llsa(q, k, v,
                     kernels::llsa_attend(q.context(), q.value(), k.value(), v.value(), indices, plan));
}

Var vsa_attention(const Var& q, const Var& k, const Var& v, const Var& gate, const VsaOptions& options) {
  const std::int64_t n = q.size(2);
  const LlsaPlan plan = kernels::picked_blocks_plan(n, options.block, options.topk);
  const Var mean_q = mean_pool(q, plan.block), mean_k = mean_pool(k, plan.block),
            mean_v = mean_pool(v, plan.block);
  const auto picks =
      kernels::llsa_select(q.context(), std::vector{mean_q.value()}, std::vector{mean_k.value()}, plan);
  const Var fine = swap_heads(llsa_attend(q, k, v, picks, plan));  // [b,N,H,D]
  const Var coarse = rows_of_tokens(swap_heads(full_attention(mean_q, mean_k, mean_v)), n, plan.block);
  return swap_heads(fine + (gate.defined() ? coarse * swap_heads(gate) : coarse));
}

Var sla_attention(const Var& q, const Var& k, const Var& v, const Var& weight, const Var& bias,
                  const SlaOptions& options) {
  Context& ctx = q.context();
  const LlsaPlan plan = kernels::picked_blocks_plan(q.size(2), options.block, options.topk);
  const auto picks = kernels::llsa_select(ctx, q.value(), k.value(), plan);
  const Var fine = swap_heads(llsa_attend(q, k, v, picks, plan));  // [b,N,H,D]
  Var rest;                                                        // O_l [b,N,H,D]
  if (plan.width[0] == plan.count[1]) {
    rest = Var(ctx, ctx.zeros(fine.shape(), q.dtype()));
  } else {
    // A column of ones beside v sums the denominator.
    const DType dtype = q.dtype() == DType::f64 ? DType::f64 : DType::f32;
    const Tensor ones = ctx.empty({q.size(0), q.size(1), q.size(2), 1}, dtype);
    kernels::fill(ctx, ones, 1.0);
    const Var sums =
        linear_attention_rest(softmax(cast(q, dtype)), softmax(cast(k, dtype)),
                              concat({cast(v, dtype), Var(ctx, ones)}, 3), plan.block, picks.level[0]);
    const auto parts = split(swap_heads(sums), {q.size(3), 1}, 3);
    rest = cast(parts[0] / parts[1], q.dtype());
  }
  return swap_heads(fine + linear(rest, weight, bias));
}

Var linear_attention_rest(const Var& a, const Var& b, const Var& c, std::int64_t block, const Tensor& picks) {
  return record("linear_attention_rest", {&a, &b, &c},
                kernels::linear_attention_rest(a.context(), a.value(), b.value(), c.value(), block, picks),
                linear_attention_rest_backward, saving(a.value(), b.value(), c.value(), picks),
                RestAttributes{block});
}

}  // namespace llsa

// Attention ops.

#include "autograd/attention.h"

#include "autograd/node.h"
#include "kernels/attention.h"
#include "kernels/check.h"
#include "kernels/copy.h"

namespace llsa {
namespace {

/// dO with unit stride in D, as the kernels take it.
Tensor output_gradient(BackwardStep& step) {
  Tensor d_o = step.take_dy();
  return d_o.stride(-1) == 1 ? d_o : kernels::contiguous(step.context(), d_o);
}

void give(BackwardStep& step, kernels::AttentionGrads grads) {
  step.add(0, std::move(grads.dq));
  step.add(1, std::move(grads.dk));
  step.add(2, std::move(grads.dv));
}

void full_attention_backward(BackwardStep& step) {
  give(step, kernels::full_attention_backward(step.context(), output_gradient(step), step.saved(0),
                                              step.saved(1), step.saved(2), step.saved(3), step.saved(4)));
}

/// Saved: q, k, v, o, lse, the indices of levels 1..L, coarse keys of levels 1..L_e, then values, then words.
void llsa_attention_backward(BackwardStep& step) {
  const auto& plan = step.attributes<kernels::LlsaPlan>();
  int next = 5;
  const auto take = [&](int levels) {
    std::vector<Tensor> tensors;
    for (int l = 0; l < levels; ++l) tensors.push_back(step.saved(next++));
    return tensors;
  };
  kernels::LlsaIndices indices = {take(plan.levels)};
  kernels::LlsaCoarse coarse;
  coarse.k = take(plan.enriched);
  coarse.v = take(plan.enriched);
  indices.words = take(step.saved_count() - next);
  give(step,
       kernels::llsa_attention_backward(step.context(), output_gradient(step), step.saved(0), step.saved(1),
                                        step.saved(2), coarse, step.saved(3), step.saved(4), indices, plan));
}

/// Throws ShapeError or DTypeError, naming the argument, unless k and v are like q.
void check_operands(const Var& q, const Var& k, const Var& v) {
  kernels::check::like("llsa_attention", {"k", k.value()}, {"q", q.value()});
  kernels::check::like("llsa_attention", {"v", v.value()}, {"q", q.value()});
}

Var attend(const Var& q, const Var& k, const Var& v, kernels::LlsaCoarse coarse,
           const kernels::LlsaIndices& indices, const kernels::LlsaPlan& plan) {
  const auto result =
      kernels::llsa_attention(q.context(), q.value(), k.value(), v.value(), coarse, indices, plan);
  std::vector<Tensor> saved = saving(q.value(), k.value(), v.value(), result.o, result.lse);
  coarse.k.resize(static_cast<std::size_t>(plan.enriched));
  for (const std::vector<Tensor>& levels : {indices.level, coarse.k, coarse.v, indices.words})
    saved.insert(saved.end(), levels.begin(), levels.end());
  return record("llsa_attention", {&q, &k, &v}, result.o, llsa_attention_backward, std::move(saved), plan);
}

}  // namespace

Var full_attention(const Var& q, const Var& k, const Var& v) {
  const auto result = kernels::full_attention(q.context(), q.value(), k.value(), v.value());
  return record("full_attention", {&q, &k, &v}, result.o, full_attention_backward,
                saving(q.value(), k.value(), v.value(), result.o, result.lse));
}

Var llsa_attention(const Var& q, const Var& k, const Var& v, const kernels::LlsaIndices& indices,
                   const kernels::LlsaPlan& plan) {
  check_operands(q, k, v);
  const auto pyramid = [&](const Var& x) {
    return kernels::llsa_pyramid(q.context(), x.value(), plan, plan.enriched);
  };
  return attend(q, k, v, {pyramid(k), pyramid(v)}, indices, plan);
}

Var llsa_attention(const Var& q, const Var& k, const Var& v, const kernels::LlsaOptions& options) {
  if (q.rank() != 4) throw ShapeError(cat("[llsa_attention] expected q [b,H,N,D], got ", q.shape()));
  check_operands(q, k, v);
  Context& ctx = q.context();
  const kernels::LlsaPlan plan = kernels::llsa_plan(q.size(2), options);
  kernels::LlsaCoarse coarse;
  coarse.k = kernels::llsa_pyramid(ctx, k.value(), plan);
  const auto indices = kernels::llsa_select(ctx, kernels::llsa_pyramid(ctx, q.value(), plan), coarse.k, plan);
  coarse.v = kernels::llsa_pyramid(ctx, v.value(), plan, plan.enriched);
  return attend(q, k, v, std::move(coarse), indices, plan);
}

}  // namespace llsa

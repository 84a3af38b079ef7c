// Attention ops.

#include "autograd/attention.h"

#include "autograd/node.h"
#include "kernels/attention.h"
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

void llsa_attention_backward(BackwardStep& step) {
  const auto& plan = step.attributes<kernels::LlsaPlan>();
  kernels::LlsaIndices indices;
  for (int level = 0; level < plan.levels; ++level) indices.level.push_back(step.saved(5 + level));
  give(step,
       kernels::llsa_attention_backward(step.context(), output_gradient(step), step.saved(0), step.saved(1),
                                        step.saved(2), step.saved(3), step.saved(4), indices, plan));
}

}  // namespace

Var full_attention(const Var& q, const Var& k, const Var& v) {
  const auto result = kernels::full_attention(q.context(), q.value(), k.value(), v.value());
  return record("full_attention", {&q, &k, &v}, result.o, full_attention_backward,
                saving(q.value(), k.value(), v.value(), result.o, result.lse));
}

Var llsa_attention(const Var& q, const Var& k, const Var& v, const kernels::LlsaIndices& indices,
                   const kernels::LlsaPlan& plan) {
  const auto result = kernels::llsa_attention(q.context(), q.value(), k.value(), v.value(), indices, plan);
  std::vector<Tensor> saved = saving(q.value(), k.value(), v.value(), result.o, result.lse);
  saved.insert(saved.end(), indices.level.begin(), indices.level.end());
  return record("llsa_attention", {&q, &k, &v}, result.o, llsa_attention_backward, std::move(saved), plan);
}

Var llsa_attention(const Var& q, const Var& k, const Var& v, const kernels::LlsaOptions& options) {
  if (q.rank() != 4) throw ShapeError(cat("[llsa_attention] expected q [b,H,N,D], got ", q.shape()));
  const kernels::LlsaPlan plan = kernels::llsa_plan(q.size(2), options);
  const kernels::LlsaIndices indices = kernels::llsa_select(q.context(), q.value(), k.value(), plan);
  return llsa_attention(q, k, v, indices, plan);
}

}  // namespace llsa

// Attention ops.

#include "autograd/attention.h"

#include "autograd/node.h"

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

}  // namespace llsa

#include "apps/bench_arms.h"

namespace llsa::apps {

std::vector<FullArm> full_arms(Context&, DType, std::int64_t) {
  return {
      {"full",
       [](Context& ctx, const AttentionInputs& in) { return kernels::full_attention(ctx, in.q, in.k, in.v); },
       [](Context& ctx, const AttentionInputs& in, const kernels::AttentionResult& r) {
         return kernels::full_attention_backward(ctx, in.d_o, in.q, in.k, in.v, r.o, r.lse);
       }}};
}

AttentionOutcome run_full(Context& ctx, const FullArm& arm, const AttentionInputs& in, bool backward) {
  AttentionOutcome outcome{arm.forward(ctx, in), {}};
  if (backward) outcome.grads = arm.backward(ctx, in, outcome.result);
  return outcome;
}

AttentionOutcome run_llsa(Context& ctx, const AttentionInputs& in, const kernels::LlsaPlan& plan,
                          bool backward, const kernels::LlsaIndices* given) {
  const kernels::LlsaIndices chosen = given ? *given : kernels::llsa_select(ctx, in.q, in.k, plan);
  AttentionOutcome outcome{kernels::llsa_attention(ctx, in.q, in.k, in.v, chosen, plan), {}};
  if (backward)
    outcome.grads = kernels::llsa_attention_backward(ctx, in.d_o, in.q, in.k, in.v, outcome.result.o,
                                                     outcome.result.lse, chosen, plan);
  return outcome;
}

}  // namespace llsa::apps

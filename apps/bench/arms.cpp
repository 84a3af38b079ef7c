#include "apps/bench/arms.h"

namespace llsa::apps {
namespace {

using kernels::AttentionKernels;

FullArm full_arm(const std::string& name, AttentionKernels whose) {
  return {name,
          [whose](Context& ctx, const AttentionInputs& in) {
            return kernels::full_attention(ctx, in.q, in.k, in.v, whose);
          },
          [whose](Context& ctx, const AttentionInputs& in, const kernels::AttentionResult& r) {
            return kernels::full_attention_backward(ctx, in.d_o, in.q, in.k, in.v, r.o, r.lse, whose);
          }};
}

/// Whether the arm takes heads of this size, backward too or forward only.
bool takes(Context& ctx, const FullArm& arm, const AttentionInputs& in, bool backward) {
  try {
    run_full(ctx, arm, in, backward);
    return true;
  } catch (const DeviceError&) {
    return false;
  }
}

}  // namespace

std::vector<FullArm> full_arms(Context& ctx, DType dtype, std::int64_t head_dim) {
  std::vector<FullArm> arms = {full_arm("full", AttentionKernels::own)};
  FullArm library = full_arm("cuDNN", AttentionKernels::library);
  const Tensor x = ctx.zeros({1, 1, 128, head_dim}, dtype);
  const AttentionInputs in{x, x, x, x};
  if (!takes(ctx, library, in, false)) return arms;
  if (!takes(ctx, library, in, true)) library.backward = {};
  arms.push_back(library);
  return arms;
}

AttentionOutcome run_full(Context& ctx, const FullArm& arm, const AttentionInputs& in, bool backward) {
  AttentionOutcome outcome{arm.forward(ctx, in), {}};
  if (backward) outcome.grads = arm.backward(ctx, in, outcome.result);
  return outcome;
}

AttentionOutcome run_llsa(Context& ctx, const AttentionInputs& in, const kernels::LlsaPlan& plan,
                          bool backward, const kernels::LlsaIndices* given) {
  const kernels::LlsaCoarse coarse = {
      kernels::llsa_pyramid(ctx, in.k, plan, given ? plan.enriched : plan.levels),
      kernels::llsa_pyramid(ctx, in.v, plan, plan.enriched)};
  const kernels::LlsaIndices chosen =
      given ? *given : kernels::llsa_select(ctx, kernels::llsa_pyramid(ctx, in.q, plan), coarse.k, plan);
  AttentionOutcome outcome{kernels::llsa_attention(ctx, in.q, in.k, in.v, coarse, chosen, plan), {}};
  if (backward)
    outcome.grads = kernels::llsa_attention_backward(ctx, in.d_o, in.q, in.k, in.v, coarse, outcome.result.o,
                                                     outcome.result.lse, chosen, plan);
  return outcome;
}

}  // namespace llsa::apps

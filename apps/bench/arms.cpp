#include "apps/bench/arms.h"

namespace llsa::apps {
namespace {

FullArm full_arm(const std::string& name, AttentionKernels whose) {
  return {name,
          [whose](Context& ctx, const AttentionInputs& in) {
            return kernels::full_attention(ctx, in.q, in.k, in.v, {.kernels = whose});
          },
          [whose](Context& ctx, const AttentionInputs& in, const kernels::AttentionResult& r) {
            return kernels::full_attention_backward(ctx, in.d_o, in.q, in.k, in.v, r.o, r.lse,
                                                    {.kernels = whose});
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
  AttentionOutcome outcome{arm.forward(ctx, in), {}, {}};
  if (backward) outcome.grads = arm.backward(ctx, in, outcome.result);
  return outcome;
}

namespace {

AttentionOutcome outcome_of(Context& ctx, const AttentionInputs& in, const kernels::LlsaResult& result,
                            bool backward) {
  AttentionOutcome outcome{{result.o, result.lse}, {}, kernels::llsa_indices(*result.state)};
  if (backward) outcome.grads = kernels::llsa_attention_backward(ctx, in.d_o, *result.state);
  return outcome;
}

}  // namespace

AttentionOutcome run_llsa(Context& ctx, const AttentionInputs& in, const LlsaOptions& options,
                          bool backward) {
  return outcome_of(ctx, in, kernels::llsa_attention(ctx, in.q, in.k, in.v, options), backward);
}

AttentionOutcome run_llsa(Context& ctx, const AttentionInputs& in, const kernels::LlsaState& selected,
                          bool backward) {
  return outcome_of(ctx, in, kernels::llsa_attend(ctx, in.q, in.k, in.v, selected), backward);
}

AttentionOutcome run_llsa(Context& ctx, const AttentionInputs& in, const kernels::LlsaIndices& indices,
                          const LlsaPlan& plan, bool backward) {
  return outcome_of(ctx, in, kernels::llsa_attend(ctx, in.q, in.k, in.v, indices, plan), backward);
}

}  // namespace llsa::apps

#include "apps/bench/variants.h"

namespace llsa::apps {
namespace {

FullVariant full_variant(const std::string& name, AttentionKernels whose) {
  return {name,
          [whose](Context& ctx, const AttentionInputs& in) {
            return kernels::full_attention(ctx, in.q, in.k, in.v, {.kernels = whose});
          },
          [whose](Context& ctx, const AttentionInputs& in, const kernels::AttentionResult& r) {
            return kernels::full_attention_backward(ctx, in.d_o, in.q, in.k, in.v, r.o, r.lse,
                                                    {.kernels = whose});
          }};
}

/// Whether the variant takes heads of this size, backward too or forward only.
bool takes(Context& ctx, const FullVariant& variant, const AttentionInputs& in, bool backward) {
  try {
    run_full(ctx, variant, in, backward);
    return true;
  } catch (const DeviceError&) {
    return false;
  }
}

}  // namespace

std::vector<FullVariant> full_variants(Context& ctx, DType dtype, std::int64_t head_dim) {
  std::vector<FullVariant> variants = {full_variant("full", AttentionKernels::own)};
  FullVariant library = full_variant("cuDNN", AttentionKernels::library);
  const Tensor x = ctx.zeros({1, 1, 128, head_dim}, dtype);
  const AttentionInputs in{x, x, x, x};
  if (!takes(ctx, library, in, false)) return variants;
  if (!takes(ctx, library, in, true)) library.backward = {};
  variants.push_back(library);
  return variants;
}

AttentionOutcome run_full(Context& ctx, const FullVariant& variant, const AttentionInputs& in,
                          bool backward) {
  AttentionOutcome outcome{variant.forward(ctx, in), {}, {}};
  if (backward) outcome.grads = variant.backward(ctx, in, outcome.result);
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

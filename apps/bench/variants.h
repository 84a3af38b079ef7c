// The contestants of the attention benchmark.
//
// LLSA runs with pooling and selection, over the picks of an earlier run, or over given indices. Every kind of
// full attention that this build and device offer is an entry of full_variants(): a name and two functions. Nothing
// else knows how many there are.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "apps/bench/inputs.h"
#include "kernels/attention.h"
#include "kernels/llsa_stages.h"

namespace llsa::apps {

struct FullVariant {
  std::string name;
  std::function<kernels::AttentionResult(Context&, const AttentionInputs&)> forward;
  /// Of the result of `forward`; empty where there is none.
  std::function<kernels::AttentionGrads(Context&, const AttentionInputs&, const kernels::AttentionResult&)>
      backward;
};

/// Our own kernels first. For heads of `head_dim` elements of a dtype on the context's device.
std::vector<FullVariant> full_variants(Context& ctx, DType dtype, std::int64_t head_dim);

struct AttentionOutcome {
  kernels::AttentionResult result;
  kernels::AttentionGrads grads;  ///< undefined without `backward`
  kernels::LlsaIndices indices;   ///< empty for full attention
};

AttentionOutcome run_full(Context& ctx, const FullVariant& variant, const AttentionInputs& in, bool backward);

/// Pooling, selection, attention, and with `backward` the gradients.
AttentionOutcome run_llsa(Context& ctx, const AttentionInputs& in, const LlsaOptions& options, bool backward);
/// The same over the picks of an earlier llsa_attention.
AttentionOutcome run_llsa(Context& ctx, const AttentionInputs& in, const kernels::LlsaState& selected,
                          bool backward);
/// The same over given indices.
AttentionOutcome run_llsa(Context& ctx, const AttentionInputs& in, const kernels::LlsaIndices& indices,
                          const LlsaPlan& plan, bool backward);

}  // namespace llsa::apps

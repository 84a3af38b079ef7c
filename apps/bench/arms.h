// The contestants of the attention benchmark.
//
// LLSA has two arms: with pooling and selection, and with given indices. Every kind of full attention that
// this build and device offer is an entry of full_arms(): a name and two functions, and nothing else knows
// how many there are.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "apps/bench/inputs.h"
#include "kernels/attention.h"
#include "kernels/llsa.h"

namespace llsa::apps {

struct FullArm {
  std::string name;
  std::function<kernels::AttentionResult(Context&, const AttentionInputs&)> forward;
  /// Of the result of `forward`; empty where there is none.
  std::function<kernels::AttentionGrads(Context&, const AttentionInputs&, const kernels::AttentionResult&)>
      backward;
};

/// Our own kernels first. For heads of `head_dim` elements of a dtype on the context's device.
std::vector<FullArm> full_arms(Context& ctx, DType dtype, std::int64_t head_dim);

struct AttentionOutcome {
  kernels::AttentionResult result;
  kernels::AttentionGrads grads;  ///< undefined without `backward`
};

AttentionOutcome run_full(Context& ctx, const FullArm& arm, const AttentionInputs& in, bool backward);

/// Pyramid, selection, attention, and with `backward` the gradients. Given indices replace the selection.
AttentionOutcome run_llsa(Context& ctx, const AttentionInputs& in, const kernels::LlsaPlan& plan,
                          bool backward, const kernels::LlsaIndices* given = nullptr);

}  // namespace llsa::apps

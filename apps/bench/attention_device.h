// The attention benchmark on a device: LLSA and every kind of full attention over a list of sizes.
#pragma once

#include <vector>

#include "apps/bench/bench.h"
#include "apps/bench/correct.h"
#include "apps/bench/sizes.h"
#include "apps/bench/timing.h"
#include "apps/bench/variants.h"

namespace llsa::apps {

struct DeviceBenchOptions {
  std::vector<AttentionSize> sizes = attention_sizes();
  std::vector<AttentionProblem> problems = attention_problems();
  int repetitions = 20;               ///< of each problem, for equal bits
  std::int64_t probe_tokens = 16384;  ///< at which full attention is timed to foresee longer calls
  double longest_call = 1.2;          ///< seconds: longer calls are left out, and named
  /// Of a figure, which is one pass of a variant at one size. 30 calls of LLSA take a third of a second at
  /// the largest size. Full attention, whose time hardly varies, gets fewer where it is slow.
  TimingLimits limits = {30, 0.7, 0.05};
};

/// Checks, then measures; prints Markdown. Works on the CPU too, where it is used by tests.
Figures bench_attention_sizes(const BenchRequest& request, const DeviceBenchOptions& options = {});

}  // namespace llsa::apps

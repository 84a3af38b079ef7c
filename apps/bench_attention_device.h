// The attention benchmark on a device: LLSA and every kind of full attention over a list of cells.
#pragma once

#include <vector>

#include "apps/bench.h"
#include "apps/bench_arms.h"
#include "apps/bench_cells.h"
#include "apps/bench_correct.h"
#include "apps/bench_timing.h"

namespace llsa::apps {

struct DeviceBenchOptions {
  std::vector<AttentionCell> cells = attention_cells();
  std::vector<AttentionProblem> problems = attention_problems();
  std::int64_t probe_tokens = 8192;  ///< at which full attention is timed to foresee longer calls
  double longest_call = 0.8;         ///< seconds: longer calls are left out, and named
  TimingLimits limits;               ///< of one cell
};

/// Checks, then measures; prints Markdown. Works on the CPU too, where it is used by tests.
Figures bench_attention_cells(const BenchRequest& request, const DeviceBenchOptions& options = {});

}  // namespace llsa::apps

// The attention benchmark on a device: LLSA and every kind of full attention over a list of cells.
#pragma once

#include <vector>

#include "apps/bench/arms.h"
#include "apps/bench/bench.h"
#include "apps/bench/cells.h"
#include "apps/bench/correct.h"
#include "apps/bench/timing.h"

namespace llsa::apps {

struct DeviceBenchOptions {
  std::vector<AttentionCell> cells = attention_cells();
  std::vector<AttentionProblem> problems = attention_problems();
  int repetitions = 20;               ///< of each problem, for equal bits
  std::int64_t probe_tokens = 16384;  ///< at which full attention is timed to foresee longer calls
  double longest_call = 1.2;          ///< seconds: longer calls are left out, and named
  /// Of a figure, which is an arm's pass in a cell. 30 calls of LLSA take a third of a second in the largest
  /// cell; full attention, whose time hardly varies, gets fewer where it is slow.
  TimingLimits limits = {30, 0.7, 0.05};
};

/// Checks, then measures; prints Markdown. Works on the CPU too, where it is used by tests.
Figures bench_attention_cells(const BenchRequest& request, const DeviceBenchOptions& options = {});

}  // namespace llsa::apps

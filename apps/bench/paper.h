// The two speed figures of the LLSA paper (Zhou et al., arXiv 2512.16615), measured on this machine.
//
// Fig. 3: attention alone, by the number of tokens: full attention, LLSA with L = 1, 2, 3 and auto, VSA and SLA, with
// blocks of 16 and of 64, forward (inference) and forward with backward (training). Whole ops are timed, with pooling
// and selection. LLSA picks 8 blocks. VSA and SLA pick 20 up to 128^2 tokens and 32 beyond, as in the paper.
//
// Fig. 4: the key-value half of the backward pass, where a block of keys finds its queries by the transpose of the
// index table or by a scan of a dense mask (mask_backward.h).
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "apps/bench/bench.h"

namespace llsa::apps {

struct PaperOptions {
  std::int64_t heads = 4, head_dim = 64;
  /// Of Fig. 4. From four heads on, the CPU backend collects dK and dV on its way through the queries and needs no
  /// transpose, so there are fewer.
  std::int64_t mask_heads = 2;
  std::vector<std::int64_t> tokens;  ///< ascending; empty = doubled from 1,024 up to the request's largest
  std::vector<int> blocks = {16, 64};
  std::vector<std::int64_t> check_tokens = {1625,
                                            5000};  ///< a variant is checked at the first that its L fits
  TimingLimits limits = {11, 2.0};                  ///< of a pass of a variant at one size
  double longest_call = 10;  ///< seconds: full attention that would take longer is left out, and named
};

/// Checks, measures, prints, and draws into request.plots.
Figures bench_paper(const BenchRequest& request, const PaperOptions& options);

/// The exponent p of y ~ x^p through points with ascending x: least squares on logarithms over the larger half of
/// the points, at least two. Empty for fewer than two points.
std::optional<double> growth_exponent(const std::vector<std::pair<double, double>>& points);

}  // namespace llsa::apps

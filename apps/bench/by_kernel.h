// Tables of a profile: what takes how long, kernel by kernel.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "apps/bench/bench.h"
#include "apps/bench/correct.h"
#include "apps/bench/sizes.h"
#include "core/profiler.h"

namespace llsa::apps {

/// What a model of the kernels, made before they ran, says about those that are launched by some of the source files.
struct PredictedKernels {
  const char* name;
  const char* place;    ///< part of a path below kernels/cuda
  double microseconds;  ///< per run
};

/// Lines of Markdown, all figures per run: ops with their kernels, then "elsewhere", then what timing costs. FLOPs are
/// those that kernels state. Bytes count each tensor that an op takes once, and those of a product by itself.
std::vector<std::string> table_of(const Profile& profile);
/// Predicted beside measured; nothing where there are no predictions.
std::vector<std::string> table_of(const Profile& profile, const std::vector<PredictedKernels>& predictions);
/// The same figures.
nn::JsonWriter figure_of(const Profile& profile, const std::vector<PredictedKernels>& predictions = {});

/// Times `runs` calls op by op, after two that are not timed.
Profile profile_calls(const BenchRequest& request, int runs, const std::function<void()>& call);

/// LLSA, forward and backward, over its own picks and over given ones with and without bit words, `runs` times each, after
/// the problems were checked. Throws Error for a wrong result.
Figures bench_attention_by_kernel(const BenchRequest& request, const AttentionSize& size,
                                  const std::vector<AttentionProblem>& problems, int runs);

}  // namespace llsa::apps

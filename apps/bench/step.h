// Training steps as a benchmark: a model, batch sizes to try, rates to compare with.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/bench/bench.h"
#include "apps/bench/timing.h"
#include "nn/dit_config.h"

namespace llsa::apps {

struct StepCase {
  std::string key;    ///< in --json
  std::string title;  ///< for the reader
  nn::DitConfig model;
  std::vector<std::int64_t> batches;  ///< the first that fits into memory is measured
  double published = 0;               ///< tokens per second in the paper, on one H200; 0 = none
  double goal = 0;                    ///< not to be fallen short of; 0 = none
  double predicted = 0;  ///< by a model of the kernels made before they ran, on an H200; 0 = none
};

/// The demo's step everywhere; on a GPU before it DiT-S (12 blocks, width 384, 6 heads, a token per pixel)
/// with LLSA, L = 2, at 256 x 256 and at 128 x 128. In order of importance.
std::vector<StepCase> step_cases(Device device);

/// Models that are small enough for the CPU to do a step in f32, or f64, to compare with.
std::vector<nn::DitConfig> step_problems(Device device);

/// A step of nn::TrainStep: noise and target of a synthetic batch that lies on the device, forward, backward,
/// clipping, AdamW, average. Checks loss and gradient, and with request.graph that replays give the bits of
/// steps that are computed op by op; then measures, with request.graph both ways, and prints. A goal is met
/// by the faster of both. Throws Error for a wrong result.
Figures bench_steps(const BenchRequest& request, const std::vector<nn::DitConfig>& problems,
                    const std::vector<StepCase>& cases, const TimingLimits& limits);

/// A training step of a model on `batch` synthetic images, computed op by op, as bench_steps measures it.
Timing time_training_step(Context& ctx, const nn::DitConfig& model, std::int64_t batch, DType dtype,
                          const TimingLimits& limits);

}  // namespace llsa::apps

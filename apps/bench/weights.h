// Gradients of weights with those of their biases: dW [N,K] = dY^T X and db, the column sums of dY [M,N].
#pragma once

#include <cstdint>
#include <vector>

#include "apps/bench/bench.h"

namespace llsa::apps {

struct WeightShape {
  const char* name;
  std::int64_t n, k;
};

/// Those of a layer of DiT-S, and of its thin first and last products.
std::vector<WeightShape> weight_shapes();

/// Times both results asked for together, which is one product with its epilogue where the library has a good one, and
/// a plain product followed by sums. Throws Error unless they agree.
Figures bench_weights(const BenchRequest& request, const std::vector<WeightShape>& shapes,
                      std::int64_t tokens, const TimingLimits& limits);

}  // namespace llsa::apps

// Which problems of LLSA the CUDA kernels for tensor cores take; all others go to the plain kernels, which
// are slower. The kernels decide by these functions. Besides, they look only at how rows are aligned, and the
// selection at b H <= 65535, the limit of a grid.
#pragma once

#include <cstdint>
#include <string>

#include "../core/dtype.h"
#include "llsa_plan.h"

namespace llsa::kernels {

/// Fewer tokens than this: their numbers are ints.
constexpr std::int64_t kTensorCoreTokens = std::int64_t{1} << 30;

/// Why attention over a plan (0 levels: full attention) with heads of dimension d does not run on tensor
/// cores: "head dimension 48 is not one of 32, 64, 128"; empty where it does, given rows that begin at
/// multiples of 16 bytes, as those of a model with such heads do.
std::string attend_obstacle(const LlsaPlan& plan, std::int64_t d, DType dtype);

/// Why one level of the selection does not: `width` picks per query; below the coarsest level the candidates
/// are children of the picks above, in blocks of `block`.
std::string select_obstacle(int width, int block, bool coarsest, std::int64_t d, DType dtype);

/// What of LLSA runs on the plain kernels, and why, as a sentence for a user; empty when nothing does, and
/// with 0 levels, where full attention is computed instead.
std::string plain_kernels_text(const LlsaPlan& plan, std::int64_t d, DType dtype);

}  // namespace llsa::kernels

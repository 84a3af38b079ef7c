// CUDA random tensors; contracts in kernels/random_table.h.
#pragma once

#include "../random_table.h"

namespace llsa::kernels::cuda {

void fill_random(Context& ctx, Distribution distribution, std::uint64_t seed, std::uint64_t stream,
                 const Tensor& sample_ids, const Tensor& x);

}  // namespace llsa::kernels::cuda

// Index tables of a test with the bit words that llsa_select would have made beside them.
#pragma once

#include "kernels/cuda/llsa/index/words.h"

namespace llsa::test {

/// Every pick must be a child of a pick of the parent's row.
inline kernels::LlsaIndices with_words(Context& gpu, const kernels::LlsaPlan& plan,
                                       const std::vector<Tensor>& level) {
  kernels::LlsaIndices indices = {level, kernels::cuda::empty_words(gpu, plan, level)};
  for (std::size_t l = 0; l < indices.words.size(); ++l)
    kernels::cuda::mark_words(gpu, plan, level[l], level[l + 1], indices.words[l]);
  return indices;
}

}  // namespace llsa::test

// States of a test whose index tables were given, with the bit words that a selection would have made beside
// them.
#pragma once

#include "kernels/cuda/llsa/llsa.h"
#include "tests/support/llsa_run.h"

namespace llsa::test {

/// The words of given tables. Every pick must be a child of a pick of the parent's row.
inline std::vector<Tensor> words_of(Context& gpu, const LlsaPlan& plan, const std::vector<Tensor>& level) {
  std::vector<Tensor> words = kernels::cuda::empty_words(gpu, plan, level);
  for (std::size_t l = 0; l < words.size(); ++l)
    kernels::cuda::mark_words(gpu, plan, level[l], level[l + 1], words[l]);
  return words;
}

/// Forward and backward over given indices, and words if there are any.
inline KernelRun run_with_words(Context& gpu, const LlsaProblem& p, const kernels::LlsaIndices& indices,
                                const std::vector<Tensor>& words, const LlsaPlan& plan, DType dtype) {
  const auto tensor = [&](const Matrix& x) { return tensor_of(gpu, x, p.shape(), dtype); };
  const kernels::LlsaResult by_rows =
      kernels::llsa_attend(gpu, tensor(p.q), tensor(p.k), tensor(p.v), indices, plan);
  kernels::LlsaState selected = *by_rows.state;
  selected.words = words;
  const kernels::LlsaResult r = kernels::llsa_attend(gpu, tensor(p.q), tensor(p.k), tensor(p.v), selected);
  const kernels::AttentionGrads d = kernels::llsa_attention_backward(gpu, tensor(p.g), *r.state);
  const auto read = [&gpu](const Tensor& x) { return kernels::to_vector<double>(gpu, x); };
  return {read(r.o), read(r.lse), read(d.dq), read(d.dk), read(d.dv)};
}

}  // namespace llsa::test

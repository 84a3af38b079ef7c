// What the attention of LLSA reads, as its kernels take it.
#pragma once

#include <vector>

#include "../core/context.h"
#include "llsa_plan.h"

namespace llsa::kernels {

/// What attention over given indices reads: level 0 is k, v themselves, levels 1..L_e their block means.
struct LlsaOperands {
  const LlsaPlan& plan;  ///< L >= 1
  Tensor q;
  std::vector<Tensor> k;             ///< levels 0..L_e
  std::vector<Tensor> v;             ///< levels 0..L_e
  const std::vector<Tensor>& index;  ///< index[l - 1] = I_l, contiguous
  std::vector<Tensor> words = {};    ///< words[l - 1] = R_l, contiguous, for l < L; or none
};

}  // namespace llsa::kernels

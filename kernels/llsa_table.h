// The stages of LLSA, as the backends provide them.
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

/// Tensors as in llsa.h, shapes and dtypes checked; outputs allocated.
struct LlsaBackend {
  /// levels[l - 1], contiguous, becomes X^(l), for as many levels as are given.
  void (*pyramid)(Context& ctx, const Tensor& x, const LlsaPlan& plan, const std::vector<Tensor>& levels);
  /// q[l - 1], k[l - 1]: level l of the pyramids; index[l - 1] becomes I_l. L >= 1. A backend whose kernels
  /// read bit words appends R_1 .. R_{L-1} to `words`.
  void (*select)(Context& ctx, const LlsaPlan& plan, const std::vector<Tensor>& q,
                 const std::vector<Tensor>& k, const std::vector<Tensor>& index, std::vector<Tensor>& words);
  /// index i32 [b,H,rows,width] contiguous to offset i32 [b,H,keys+1], query i32 [b,H,rows*width].
  void (*transpose)(Context& ctx, const Tensor& index, std::int64_t keys, const Tensor& offset,
                    const Tensor& query);
  void (*attend)(Context& ctx, const LlsaOperands& args, const Tensor& o, const Tensor& lse);
  void (*attend_backward)(Context& ctx, const LlsaOperands& args, const Tensor& d_o, const Tensor& o,
                          const Tensor& lse, const Tensor& dq, const Tensor& dk, const Tensor& dv);
};

}  // namespace llsa::kernels

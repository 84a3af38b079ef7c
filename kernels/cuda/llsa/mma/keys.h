// The steps of the key-major half of the backward pass on tensor cores: one level at a time.
#pragma once

#include "../../../llsa_operands.h"
#include "../terms.h"

namespace llsa::kernels::cuda {

/// Level l of a problem: G_l = dK^(l) / c_l + G_{l+1} of the parent, the same for V.
struct KeyProblem {
  const LlsaOperands& args;
  const Tensor& d_o;
  const QueryTerms& terms;
  int level;
  Tensor above_k, above_v;  ///< G_{l+1} [b,H,n_{l+1},D] f32; undefined at the coarsest enriched level
  Tensor to_k, to_v;        ///< G_l [b,H,n_l,D]: bf16 at level 0, else f32
};

/// The coarsest level, l = L: every query attends to every key.
void dense_keys_backward(Context& ctx, const KeyProblem& problem);

/// A level below it: `lists` are the queries by key of I_{l+1}.
void listed_keys_backward(Context& ctx, const KeyProblem& problem, const IndexTranspose& lists);

}  // namespace llsa::kernels::cuda

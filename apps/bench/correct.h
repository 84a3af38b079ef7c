// Whether attention on a device is right, before anything is timed: against the CPU backend, which is the
// specification, in f32 (f64 for f32) with the same inputs and the same indices.
//
//   o           |o - o'| / |o'| <= 5e-3 in bf16, 1e-5 in f32        (Euclidean norms over the whole tensor)
//   dq, dk, dv  the same, <= 1e-2 and 3e-5
//   lse         largest |lse - lse'| <= 1e-3 and 1e-4
//
// or twice what the CPU backend itself errs by in bf16, where that is more: with smooth values the gradient
// of q is a small difference of large terms.
//
//   selection   rows ascending, valid, of the right length; in f64 scores of the device's pooled tokens, no
//               token left out is better than one picked by more than 1e-3 of the level's largest |score|
//
// And all of it again, as often as asked: indices, o, lse, dq, dk and dv have the same bits each time.
//
// With all blocks selected LLSA is full attention: that, and every variant of full attention, is held against the
// CPU's full attention.
#pragma once

#include <cstdint>
#include <vector>

#include "apps/bench/variants.h"

namespace llsa::apps {

struct AttentionProblem {
  std::int64_t tokens;
  LlsaOptions options;
};

/// N = 1009, 4096, 5000 and 16,384; B = 16, 32, 64; K = 8 and 32; L = 1 and 2.
std::vector<AttentionProblem> attention_problems();

/// The largest errors seen.
struct AttentionErrors {
  double o = 0, gradients = 0, lse = 0, selection = 0;
};

/// Both kinds of inputs, two heads of `head_dim`; then `repetitions` more of each problem and variant. Throws
/// Error that says what is wrong at the first problem beyond the bounds; NaN is beyond.
AttentionErrors check_attention(Context& ctx, DType dtype, const std::vector<FullVariant>& variants,
                                std::int64_t head_dim, const std::vector<AttentionProblem>& problems,
                                int repetitions);

/// How much better, as a share of the level's largest |score|, the best token left out is than the worst one
/// picked, over all rows of all levels: <= 0 for an exact selection. Infinite for a row that is not
/// ascending, not valid or too short. Indices and pooled tokens on the host, levels 1..L.
double selection_gap(Context& host, const LlsaPlan& plan, const kernels::LlsaIndices& indices,
                     const std::vector<Tensor>& pooled_q, const std::vector<Tensor>& pooled_k);

}  // namespace llsa::apps

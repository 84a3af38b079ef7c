// The contract of a device, page 3 of 4 (tensors.h says what holds for all): attention.
#pragma once

#include <string>
#include <vector>

#include "../llsa_stages.h"
#include "entry.h"

namespace llsa::kernels {

/// Tensors as in kernels/attention.h; q, k, v, d_o and o have unit stride in D, lse is contiguous.
struct AttentionBackend {
  Entry<void(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v, bool causal, const Tensor& o,
             const Tensor& lse)>
      full_attention;
  Entry<void(Context& ctx, const Tensor& d_o, const Tensor& q, const Tensor& k, const Tensor& v,
             const Tensor& o, const Tensor& lse, bool causal, const Tensor& dq, const Tensor& dk,
             const Tensor& dv)>
      full_attention_backward;
};

/// The same by a library; both null where there is none. Each function returns an empty text when it has done
/// the work. Otherwise it has written nothing and returns the reason, which depends on dtypes, shapes,
/// strides, the alignment of addresses, and `causal` only.
struct AttentionLibrary {
  Entry<std::string(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v, bool causal,
                    const Tensor& o, const Tensor& lse)>
      full_attention = nullptr;
  /// Also declines a problem that takes more than `most_memory` bytes besides the tensors.
  Entry<std::string(Context& ctx, const Tensor& d_o, const Tensor& q, const Tensor& k, const Tensor& v,
                    const Tensor& o, const Tensor& lse, bool causal, std::int64_t most_memory,
                    const Tensor& dq, const Tensor& dk, const Tensor& dv)>
      full_attention_backward = nullptr;
};

/// What attention reads and writes. kernels/llsa.cpp checks the inputs, allocates, and keeps the state from
/// the forward pass to the backward pass.
struct LlsaState {
  LlsaPlan plan;
  Tensor q;                        ///< [b,H,N,D], unit stride in D
  std::vector<Tensor> k, v;        ///< level 0: the tokens, like q; levels 1..L_e: their means, contiguous
  std::vector<Tensor> index = {};  ///< index[l - 1] = I_l, contiguous
  /// CUDA devices with B <= 64 only: words[l - 1] = R_l for l = 1..L-1, the picks of I_l as bit words
  /// (cuda/llsa/index/words.cu). Empty beside tables that were given.
  std::vector<Tensor> words = {};
  Tensor o = {}, lse = {};  ///< the results
  /// Full attention alone (L = 0), which CUDA devices compute by the same kernels: query t sees the keys
  /// s <= t + M - N.
  bool causal = false;
};
/// What attention reads and writes: words instead of tables where there are any.
inline double bytes_of(const LlsaState& state) {
  return bytes_of(std::vector<Tensor>{state.q, state.o, state.lse}) + bytes_of(state.k) + bytes_of(state.v) +
         bytes_of(state.words.empty() ? state.index : state.words);
}
inline AttentionFlops flops_of(const LlsaState& state) {
  const Tensor& q = state.q;
  const std::int64_t rows = q.size(0) * q.size(1), d = q.size(3);
  return state.plan.levels == 0 ? full_attention_flops(rows, q.size(2), state.k[0].size(2), d, state.causal)
                                : llsa_flops(state.plan, rows, d);
}
/// What a selection writes.
inline double bytes_of(LlsaState& state) { return bytes_of(state.index); }

struct LlsaStagesBackend {
  /// levels[l - 1], contiguous, becomes X^(l), for as many levels as are given.
  Entry<void(Context& ctx, const Tensor& x, const LlsaPlan& plan, const std::vector<Tensor>& levels)>
      llsa_pyramid;
  /// q[l - 1], k[l - 1]: level l of the pyramids. Given state.plan, with L >= 1, state.index becomes the
  /// tables, and the backend may add what its attention reads beside them.
  Entry<void(Context& ctx, const std::vector<Tensor>& q, const std::vector<Tensor>& k, LlsaState& state)>
      llsa_select;
  /// index i32 [b,H,rows,width] contiguous to offset i32 [b,H,keys+1], query i32 [b,H,rows*width].
  Entry<void(Context& ctx, const Tensor& index, std::int64_t keys, const Tensor& offset, const Tensor& query)>
      index_transpose;
};

/// L >= 1.
struct LlsaBackend {
  /// Writes state.o and state.lse.
  Entry<void(Context& ctx, const LlsaState& state)> llsa_attention;
  Entry<void(Context& ctx, const Tensor& d_o, const LlsaState& state, const Tensor& dq, const Tensor& dk,
             const Tensor& dv)>
      llsa_attention_backward;
};

/// Tensors of one dtype, f32 or f64, with unit stride in their last axis.
struct LinearAttentionBackend {
  /// y [b,H,N,F] of a, b [b,H,N,E] and c [b,H,N,F] (kernels/linear_attention.h), n = ceil(N / block). `lists` i32,
  /// contiguous: the blocks that each block leaves out of its sum, ascending. Either [b,H,n,w], where offset is
  /// undefined and -1 fills the ends of rows, or the transpose of such a table, [b,H,n w] and offset [b,H,n+1].
  Entry<void(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& c, std::int64_t block,
             const Tensor& lists, const Tensor& offset, const Tensor& y)>
      linear_attention_rest;
};

namespace cpu {
extern const AttentionBackend kAttention;
extern const LlsaStagesBackend kLlsaStages;
extern const LlsaBackend kLlsa;
extern const LinearAttentionBackend kLinearAttention;
}  // namespace cpu
namespace cuda {
extern const AttentionBackend kAttention;
extern const AttentionLibrary kAttentionLibrary;
extern const LlsaStagesBackend kLlsaStages;
extern const LlsaBackend kLlsa;
extern const LinearAttentionBackend kLinearAttention;
}  // namespace cuda

}  // namespace llsa::kernels

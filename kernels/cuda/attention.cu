// Full attention, O = softmax(Q K^T / sqrt(D)) V, by the kernels of LLSA: a state with no coarse levels,
// whose level 0 is treated like the coarsest level. In causal attention, tiles of keys that none of a block's
// queries sees are skipped.
//
// Tiling, and what binds, are those of coarse levels in llsa/mma/forward.cu, llsa/mma/queries.cu and
// llsa/mma/keys_dense.cu, or of llsa/plain/forward.cu and llsa/plain/backward.cu. FLOPs for N queries and M
// keys of a head: 4 N M D forward, 14 N M D backward, of which 4 are S and dP for a second time; in causal
// attention about half of it at N = M. Bytes on tensor cores: Q, K, V and O once from memory, 2 D a row; from
// L2 4 M D of K and V for every 128 queries (64 at D = 128), so 128 (64) FLOP per byte.
#include "kernels/cuda/llsa/llsa.h"

namespace llsa::kernels::cuda {
namespace {

LlsaState state_of(const Tensor& q, const Tensor& k, const Tensor& v, bool causal, const Tensor& o,
                   const Tensor& lse) {
  LlsaState state;
  state.plan.tokens = q.size(2);
  state.plan.block = 1;
  state.plan.count = {k.size(2)};
  state.q = q;
  state.k = {k};
  state.v = {v};
  state.o = o;
  state.lse = lse;
  state.causal = causal;
  return state;
}

void full_attention(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v, bool causal,
                    const Tensor& o, const Tensor& lse) {
  llsa_attention(ctx, state_of(q, k, v, causal, o, lse));
}

void full_attention_backward(Context& ctx, const Tensor& d_o, const Tensor& q, const Tensor& k,
                             const Tensor& v, const Tensor& o, const Tensor& lse, bool causal,
                             const Tensor& dq, const Tensor& dk, const Tensor& dv) {
  llsa_attention_backward(ctx, d_o, state_of(q, k, v, causal, o, lse), dq, dk, dv);
}

}  // namespace

constinit const AttentionBackend kAttention = {.full_attention = full_attention,
                                               .full_attention_backward = full_attention_backward};

}  // namespace llsa::kernels::cuda

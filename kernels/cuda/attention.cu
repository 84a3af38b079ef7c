// Full attention, O = softmax(Q K^T / sqrt(D)) V: the attended set with no coarse levels, of which every
// query attends to all tokens. The kernels are those of LLSA, whose coarsest level is treated in the same
// way.
//
// Tiling, and what binds, are those of coarse levels in llsa/mma/forward.cu, llsa/mma/queries.cu and
// llsa/mma/keys_dense.cu, or of llsa/plain/forward.cu and llsa/plain/backward.cu. FLOPs for N queries and M
// keys of a head: 4 N M D forward, 14 N M D backward, of which 4 are S and dP for a second time. Bytes on
// tensor cores: Q, K, V and O once from memory, 2 D a row; from L2 4 M D of K and V for every 128 queries (64
// at D = 128), so 128 (64) FLOP per byte.
#include "kernels/backend/attention.h"

#include "kernels/cuda/llsa/llsa.h"

namespace llsa::kernels::cuda {
namespace {

struct FullSet {
  LlsaPlan plan;
  std::vector<Tensor> index;

  FullSet(std::int64_t queries, std::int64_t keys) {
    plan.tokens = queries;
    plan.block = 1;
    plan.count = {keys};
  }
  LlsaOperands operands(const Tensor& q, const Tensor& k, const Tensor& v) const {
    return {plan, q, {k}, {v}, index};
  }
};

void full_attention(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& o,
                    const Tensor& lse) {
  const FullSet set(q.size(2), k.size(2));
  llsa_attend(ctx, set.operands(q, k, v), o, lse);
}

void full_attention_backward(Context& ctx, const Tensor& d_o, const Tensor& q, const Tensor& k,
                             const Tensor& v, const Tensor& o, const Tensor& lse, const Tensor& dq,
                             const Tensor& dk, const Tensor& dv) {
  const FullSet set(q.size(2), k.size(2));
  llsa_attend_backward(ctx, set.operands(q, k, v), d_o, o, lse, dq, dk, dv);
}

}  // namespace

constinit const AttentionBackend kAttention = {.full_attention = full_attention,
                                               .full_attention_backward = full_attention_backward};

}  // namespace llsa::kernels::cuda

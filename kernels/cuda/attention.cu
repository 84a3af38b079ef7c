// Full attention, O = softmax(Q K^T / sqrt(D)) V, by the kernels of LLSA: it is an attended set without coarse
// levels, in which every query attends to all tokens, and the kernels treat the coarsest level of LLSA in the
// same way.
//
// Tiling and bounds are those of the coarse levels in llsa/mma/forward.cu, llsa/mma/queries.cu and
// llsa/mma/keys_dense.cu, or of llsa/plain/forward.cu and llsa/plain/backward.cu.
//
// FLOPs of a head with N queries and M keys: 4 N M D forward; 14 N M D backward, because S and dP are computed
// twice (4 N M D of it). Bytes on tensor cores: Q, K, V and O come once from memory, 2 D bytes a row. K and V
// come from L2 once for every 128 queries (64 at D = 128), 4 M D bytes, which makes 128 (64) FLOP per byte.
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

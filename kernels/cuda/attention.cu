// Full attention: the attended set with no coarse levels, of which every query attends to all tokens. The
// kernels are those of LLSA, whose coarsest level is treated in the same way.
#include "kernels/cuda/attention.h"

#include "kernels/cuda/llsa.h"

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

}  // namespace

void attention(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& o,
               const Tensor& lse) {
  const FullSet set(q.size(2), k.size(2));
  llsa_attend(ctx, set.operands(q, k, v), o, lse);
}

void attention_backward(Context& ctx, const Tensor& d_o, const Tensor& q, const Tensor& k, const Tensor& v,
                        const Tensor& o, const Tensor& lse, const Tensor& dq, const Tensor& dk,
                        const Tensor& dv) {
  const FullSet set(q.size(2), k.size(2));
  llsa_attend_backward(ctx, set.operands(q, k, v), d_o, o, lse, dq, dk, dv);
}

}  // namespace llsa::kernels::cuda

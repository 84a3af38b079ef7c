// LLSA forward on the CPU: the B queries of a block share their key list and are one tile.
#include "kernels/backend/attention.h"
#include "kernels/cpu/llsa.h"
#include "kernels/cpu/llsa_attended.h"

namespace llsa::kernels::cpu {

void llsa_attend(Context& ctx, const LlsaOperands& args, const Tensor& o, const Tensor& lse) {
  visit_floating(args.q.dtype(), "llsa_attention", [&]<class T>() {
    using A = accumulator_t<T>;
    const Tensor q = accumulable(ctx, args.q);
    const Attended<A> attended(ctx, args, false);
    const Output out(ctx, o);
    attend_blocks<A>(ctx, Heads<A>(q), args.plan.block, args.plan.keys_per_query(), attended,
                     Heads<A>(out.tensor()), lse.data<A>());
    out.finish(ctx);
  });
}

constinit const LlsaBackend kLlsa = {.pyramid = llsa_pyramid,
                                     .select = llsa_select,
                                     .transpose = index_transpose,
                                     .attend = llsa_attend,
                                     .attend_backward = llsa_attend_backward};

}  // namespace llsa::kernels::cpu

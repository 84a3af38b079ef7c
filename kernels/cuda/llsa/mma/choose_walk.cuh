// Which walk over the keys a problem takes in the kernels by query.
#pragma once

#include "rows.cuh"
#include "words.cuh"

namespace llsa::kernels::cuda {

/// Sizes of their blocks: 96 KiB of shared memory (48 at D = 32) besides lists, and at most 128 (256 at D = 128)
/// registers.
template <int D, int pieces, bool usual>
using SiblingQueries = QueryBlock<D, D == 128 ? 4 : 8, 2, pieces, usual>;

/// Calls f.operator()<Fine>() with the walk, for steps of at most `pieces` pieces.
template <int pieces, class F>
void visit_walk(const Context& ctx, const LlsaState& args, F&& f) {
  visit_head_dimension(args.q.size(3), [&]<int D>() {
    using Usual = SiblingQueries<D, pieces, true>;
    using Any = SiblingQueries<D, pieces, false>;
    const bool usual =
        args.plan.levels > 0 && args.plan.block == 16 && args.k[0].stride(2) == D && args.v[0].stride(2) == D;
    if (args.causal)
      f.template operator()<FineByRows<Any, true>>();
    else if (!go_by_words<Any>(args))
      usual ? f.template operator()<FineByRows<Usual>>() : f.template operator()<FineByRows<Any>>();
    else if (!usual)
      f.template operator()<FineByWords<Any, 3>>();
    else if (words_ring(D).stages(shared_memory_of_processor(ctx)) == 3)
      f.template operator()<FineByWords<Usual, 3>>();
    else
      f.template operator()<FineByWords<Usual, 2>>();
  });
}

}  // namespace llsa::kernels::cuda

// Block means of the tokens on the CPU. Sums in f32 (f64 for f64) go up the levels, each level's mean is
// rounded once: sums[l][i] = sum of the B sums under it, in order; X^(l)[i] = round(sums[l][i] / c_l[i]).
#include "kernels/cpu/attention_driver.h"
#include "kernels/cpu/llsa.h"

namespace llsa::kernels::cpu {
namespace {

/// One level from the values below it: `below` holds tokens (level 1) or sums. Sums are kept only if a level
/// follows.
template <class T, class A, class Below>
void pool_level(Context& ctx, const LlsaPlan& plan, int level, const Heads<Below>& below, A* sums,
                const Heads<T>& out) {
  const std::int64_t d = out.d, block = plan.block;
  const std::int64_t per_chunk = std::max<std::int64_t>(1, 16384 / (block * std::max<std::int64_t>(d, 1)));
  for_block_ranges(ctx, out.count(), out.tokens, per_chunk,
                   [&](std::int64_t head, std::int64_t first, std::int64_t last) {
                     std::vector<A> local(sums ? 0 : static_cast<std::size_t>(d));
                     for (std::int64_t i = first; i < last; ++i) {
                       A* const sum = sums ? sums + (head * out.tokens + i) * d : local.data();
                       const std::int64_t end = std::min((i + 1) * block, below.tokens);
                       const Below* x = below.row(head, i * block);
                       for (std::int64_t j = 0; j < d; ++j) sum[j] = static_cast<A>(x[j]);
                       for (std::int64_t n = i * block + 1; n < end; ++n) {
                         x = below.row(head, n);
#pragma omp simd
                         for (std::int64_t j = 0; j < d; ++j) sum[j] += static_cast<A>(x[j]);
                       }
                       const A covered = static_cast<A>(plan.covered(level, i));
                       T* const mean = out.row(head, i);
#pragma omp simd
                       for (std::int64_t j = 0; j < d; ++j) mean[j] = static_cast<T>(sum[j] / covered);
                     }
                   });
}

}  // namespace

void llsa_pyramid(Context& ctx, const Tensor& x, const LlsaPlan& plan, const std::vector<Tensor>& levels) {
  visit_floating(x.dtype(), "llsa_pyramid", [&]<class T>() {
    using A = accumulator_t<T>;
    Tensor below;  // sums of the level last done
    for (std::size_t l = 0; l < levels.size(); ++l) {
      const bool more = l + 1 < levels.size();
      const Tensor sums = more ? ctx.empty(levels[l].shape(), dtype_of<A>::value) : Tensor();
      A* const to = more ? sums.data<A>() : nullptr;
      const int level = static_cast<int>(l) + 1;
      if (l == 0) {
        pool_level<T, A>(ctx, plan, level, Heads<T>(x), to, Heads<T>(levels[l]));
      } else {
        pool_level<T, A>(ctx, plan, level, Heads<A>(below), to, Heads<T>(levels[l]));
      }
      below = sums;
    }
  });
}

}  // namespace llsa::kernels::cpu

// Block means of the tokens on the CPU. Sums in f32 (f64 for f64) go up the levels, each level's mean is
// rounded once: sums[l][i] = sum of the B sums under it, in order; X^(l)[i] = round(sums[l][i] / c_l[i]).
#include "kernels/cpu/attention_driver.h"
#include "kernels/cpu/llsa.h"

namespace llsa::kernels::cpu {
namespace {

/// Sums and means of `count` rows, Columns at a time.
template <int Columns, class T, class A, class Below>
void pool_columns(const Below* x, std::int64_t stride, std::int64_t count, A covered, A* sum, T* mean) {
  A acc[Columns] = {};
  for (std::int64_t n = 0; n < count; ++n) {
#pragma omp simd
    for (int j = 0; j < Columns; ++j) acc[j] += static_cast<A>(x[n * stride + j]);
  }
#pragma omp simd
  for (int j = 0; j < Columns; ++j) mean[j] = static_cast<T>(acc[j] / covered);
  if (sum) {
#pragma omp simd
    for (int j = 0; j < Columns; ++j) sum[j] = acc[j];
  }
}

/// One level from the values below it: `below` holds tokens (level 1) or sums. Sums are kept only if a level
/// follows.
template <class T, class A, class Below>
void pool_level(Context& ctx, const LlsaPlan& plan, int level, const Heads<Below>& below, A* sums,
                const Heads<T>& out) {
  const std::int64_t d = out.d, block = plan.block;
  const std::int64_t per_chunk = std::max<std::int64_t>(1, 16384 / (block * std::max<std::int64_t>(d, 1)));
  for_block_ranges(
      ctx, out.count(), out.tokens, per_chunk, [&](std::int64_t head, std::int64_t first, std::int64_t last) {
        for (std::int64_t i = first; i < last; ++i) {
          const std::int64_t begin = i * block, count = std::min(block, below.tokens - begin);
          const Below* const x = below.row(head, begin);
          A* const sum = sums ? sums + (head * out.tokens + i) * d : nullptr;
          const A covered = static_cast<A>(plan.covered(level, i));
          T* const mean = out.row(head, i);
          std::int64_t j = 0;
          for (; j + 32 <= d; j += 32)
            pool_columns<32>(x + j, below.stride, count, covered, sum ? sum + j : nullptr, mean + j);
          for (; j < d; ++j)
            pool_columns<1>(x + j, below.stride, count, covered, sum ? sum + j : nullptr, mean + j);
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

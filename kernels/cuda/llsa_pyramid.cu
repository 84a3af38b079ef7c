// Block means of the tokens, level by level: twin of kernels/cpu/llsa_pyramid.cpp, with its order of sums.
//
//     sum_l[i] = sum of the B sums of level l-1 under token i, in order;   X^(l)[i] = round(sum_l[i] /
//     c_l[i])
//
// A thread per element of a level; neighbouring threads take neighbouring d, so that every read and write is
// coalesced. Sums are f32 (f64 for f64) and are kept only where a level follows.
// Bytes: x once, then 1/B of it per level, twice; one addition per element read: bound by memory.
#include "kernels/cuda/llsa.h"
#include "kernels/cuda/llsa_operands.cuh"

namespace llsa::kernels::cuda {
namespace {

/// One level of `count` tokens from the `below_count` rows under it. sums may be null.
template <class T, class A, class Below>
__global__ void pool_level(HeadRows<const Below> below, std::int64_t below_count, std::int64_t elements,
                           std::int64_t count, int d, int block, std::int64_t tokens, std::int64_t span,
                           A* sums, T* means) {
  const std::int64_t at = piece_of_thread();
  if (at >= elements) return;
  const std::int64_t j = at % d, i = at / d % count, head = at / d / count;
  const std::int64_t first = i * block;
  const std::int64_t end = first + block < below_count ? first + block : below_count;
  const Below* from = below.head(head) + first * below.stride + j;
  A sum = static_cast<A>(*from);
  for (std::int64_t n = first + 1; n < end; ++n) sum += static_cast<A>(*(from += below.stride));
  const std::int64_t rest = tokens - i * span;
  means[at] = static_cast<T>(sum / static_cast<A>(rest < span ? rest : span));
  if (sums) sums[at] = sum;
}

}  // namespace

void llsa_pyramid(Context& ctx, const Tensor& x, const LlsaPlan& plan, const std::vector<Tensor>& levels) {
  visit_device(x.dtype(), "llsa_pyramid", [&]<class T>() {
    using A = accumulator_t<T>;
    Tensor below;  // sums of the level last done
    std::int64_t span = 1;
    for (std::size_t l = 0; l < levels.size(); ++l) {
      span = std::min(span * plan.block, plan.tokens);
      const Tensor sums = l + 1 < levels.size() ? ctx.empty(levels[l].shape(), dtype_of<A>::value) : Tensor();
      const auto pool = [&]<class Below>(const Tensor& from) {
        launch_threads(ctx, pool_level<T, A, Below>, levels[l].numel(), HeadRows<const Below>(from),
                       from.size(2), levels[l].numel(), levels[l].size(2), static_cast<int>(x.size(3)),
                       plan.block, plan.tokens, span, device_data<A>(sums), device_data<T>(levels[l]));
      };
      if (l == 0)
        pool.template operator()<T>(x);
      else
        pool.template operator()<A>(below);
      below = sums;
    }
  });
}

}  // namespace llsa::kernels::cuda

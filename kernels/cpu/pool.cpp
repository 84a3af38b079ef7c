// Block means on the CPU: parallel over blocks, the tokens of a block added in order.
#include "kernels/backend/layers.h"

#include <vector>

#include "kernels/cpu/chunks.h"

namespace llsa::kernels::cpu {
namespace {

/// body(first, count): the tokens of pooled row r of [R,n,D], counted over all R sequences of `tokens`.
struct Blocks {
  std::int64_t tokens, block, count;

  std::int64_t first(std::int64_t r) const { return r / count * tokens + r % count * block; }
  std::int64_t size(std::int64_t r) const { return std::min(block, tokens - r % count * block); }
};

void mean_pool(Context& ctx, const Tensor& x, std::int64_t block, const Tensor& y) {
  const Blocks blocks{x.size(1), block, y.size(1)};
  const std::int64_t d = x.size(2);
  visit_floating(x.dtype(), "mean_pool", [&]<class T>() {
    using A = accumulator_t<T>;
    run_rows(ctx, y.size(0) * y.size(1), d * std::min(block, blocks.tokens),
             [&](std::int64_t begin, std::int64_t end) {
               std::vector<A> sums(static_cast<std::size_t>(d));
               A* sum = sums.data();
               for (std::int64_t r = begin; r < end; ++r) {
                 const T* in = x.data<T>() + blocks.first(r) * d;
                 T* out = y.data<T>() + r * d;
                 const std::int64_t count = blocks.size(r);
                 std::fill_n(sum, d, A(0));
                 for (std::int64_t j = 0; j < count; ++j, in += d) {
#pragma omp simd
                   for (std::int64_t i = 0; i < d; ++i) sum[i] += static_cast<A>(in[i]);
                 }
                 const A divisor = static_cast<A>(count);
#pragma omp simd
                 for (std::int64_t i = 0; i < d; ++i) out[i] = static_cast<T>(sum[i] / divisor);
               }
             });
  });
}

void mean_pool_backward(Context& ctx, const Tensor& dy, std::int64_t block, const Tensor& dx) {
  const Blocks blocks{dx.size(1), block, dy.size(1)};
  const std::int64_t d = dx.size(2);
  visit_floating(dy.dtype(), "mean_pool_backward", [&]<class T>() {
    using A = accumulator_t<T>;
    run_rows(ctx, dy.size(0) * dy.size(1), d * std::min(block, blocks.tokens),
             [&](std::int64_t begin, std::int64_t end) {
               for (std::int64_t r = begin; r < end; ++r) {
                 const T* in = dy.data<T>() + r * d;
                 T* out = dx.data<T>() + blocks.first(r) * d;
                 const A divisor = static_cast<A>(blocks.size(r));
                 for (std::int64_t j = 0; j < blocks.size(r); ++j, out += d) {
#pragma omp simd
                   for (std::int64_t i = 0; i < d; ++i)
                     out[i] = static_cast<T>(static_cast<A>(in[i]) / divisor);
                 }
               }
             });
  });
}

}  // namespace

constinit const PoolBackend kPool = {.mean_pool = mean_pool, .mean_pool_backward = mean_pool_backward};

}  // namespace llsa::kernels::cpu

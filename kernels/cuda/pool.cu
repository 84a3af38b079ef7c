// Block means, and their adjoint. With size_i = min(B, N - i B):
//
//     y[i] = (sum of x[n] over the tokens n of block i) / size_i;   dx[n] = dy[n / B] / size_{n / B}
//
// Forward: a thread per element of y, neighbouring threads along D, which adds the tokens of its block in order.
// Backward: a thread per element of dx.
//
// Bytes per element of x in f32 (bf16): forward reads 4 (2) and writes 1/B of that; backward writes 4 (2) and reads
// 1/B of that. Forward adds once per element and is bound by memory. Backward needs three quotients of 64-bit
// numbers and one of floating point for 4 (2) bytes, so it is bound by issuing instructions (device/launch.cuh).
#include "kernels/backend/layers.h"

#include "kernels/cuda/device/launch.cuh"
#include "kernels/cuda/device/types.cuh"

namespace llsa::kernels::cuda {
namespace {

struct Blocks {
  std::int64_t sequences, tokens, block, count, d;

  __device__ std::int64_t size(std::int64_t at) const {
    const std::int64_t left = tokens - at * block;
    return left < block ? left : block;
  }
};

template <class T>
__global__ void pool(Blocks blocks, const T* x, T* y) {
  using A = accumulator_t<T>;
  const std::int64_t i = piece_of_thread();
  if (i >= blocks.sequences * blocks.count * blocks.d) return;
  const std::int64_t column = i % blocks.d;
  const std::int64_t at = i / blocks.d % blocks.count;
  const std::int64_t sequence = i / blocks.d / blocks.count;
  const std::int64_t size = blocks.size(at);
  const T* from = x + (sequence * blocks.tokens + at * blocks.block) * blocks.d + column;
  A sum = 0;
  for (std::int64_t j = 0; j < size; ++j, from += blocks.d) sum += static_cast<A>(*from);
  y[i] = static_cast<T>(sum / static_cast<A>(size));
}

template <class T>
__global__ void pool_backward(Blocks blocks, const T* dy, T* dx) {
  using A = accumulator_t<T>;
  const std::int64_t i = piece_of_thread();
  if (i >= blocks.sequences * blocks.tokens * blocks.d) return;
  const std::int64_t column = i % blocks.d;
  const std::int64_t at = i / blocks.d % blocks.tokens / blocks.block;
  const std::int64_t sequence = i / blocks.d / blocks.tokens;
  const A value = static_cast<A>(dy[(sequence * blocks.count + at) * blocks.d + column]);
  dx[i] = static_cast<T>(value / static_cast<A>(blocks.size(at)));
}

void mean_pool(Context& ctx, const Tensor& x, std::int64_t block, const Tensor& y) {
  visit_device(x.dtype(), "mean_pool", [&]<class T>() {
    launch_threads(ctx, pool<T>, y.numel(), Blocks{x.size(0), x.size(1), block, y.size(1), x.size(2)},
                   device_data<T>(x), device_data<T>(y));
  });
}

void mean_pool_backward(Context& ctx, const Tensor& dy, std::int64_t block, const Tensor& dx) {
  visit_device(dx.dtype(), "mean_pool_backward", [&]<class T>() {
    launch_threads(ctx, pool_backward<T>, dx.numel(),
                   Blocks{dx.size(0), dx.size(1), block, dy.size(1), dx.size(2)}, device_data<T>(dy),
                   device_data<T>(dx));
  });
}

}  // namespace

constinit const PoolBackend kPool = {.mean_pool = mean_pool, .mean_pool_backward = mean_pool_backward};

}  // namespace llsa::kernels::cuda

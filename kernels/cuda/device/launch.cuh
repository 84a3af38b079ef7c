// How kernels are started: one thread, or one warp, per piece of work.
//
// These launches use no dynamic shared memory. Sums within a row go through the registers of a warp; longer sums
// leave partial results in global memory, which a second launch adds in a fixed order. So results depend on
// shapes only.
//
// The head of each kernel file counts what binds its kernels. The measure is the ratio of instructions to bytes:
// an H200 issues about 6 instructions per lane and byte of memory traffic (132 x 128 lanes, 1.755 GHz, 4.8 TB/s).
// A quotient of 64-bit numbers that fit into 32 bits takes some 20 instructions, so a kernel that needs several
// of them per element is bound by issuing instructions.
#pragma once

#include <cstdint>

#include "../../../core/context.h"
#include "../simt/simt.h"

namespace llsa::kernels::cuda {

constexpr int kThreads = 256;  // of a block with a thread per piece
constexpr int kWarps = 4;      // of a block with a warp per piece
constexpr unsigned kAllLanes = 0xffffffffu;

inline std::int64_t ceil_div(std::int64_t n, std::int64_t d) { return (n + d - 1) / d; }

inline cudaStream_t stream_of(const Context& ctx) { return static_cast<cudaStream_t>(ctx.stream()); }

inline dim3 grid_of(std::int64_t blocks) {
  if (blocks > 0x7fffffff)
    throw ShapeError(cat("[cuda] a kernel of ", blocks, " blocks is more than one launch can take"),
                     "use a smaller batch");
  return dim3(static_cast<unsigned>(blocks));
}

/// A context whose stream a kernel goes to, and the line that launches it. Converts from a context, where a
/// launch_ function is called.
struct LaunchContext {
  Context& ctx;
  llsa::cuda::Place place;

  LaunchContext(Context& ctx_, llsa::cuda::Place place_ = llsa::cuda::Place::here())
      : ctx(ctx_), place(place_) {}
  llsa::simt::LaunchStream stream() const { return {stream_of(ctx), place}; }
};

/// Starts a thread for each of n pieces; a kernel finds its own by piece_of_thread() and checks it against n.
template <class... Params, class... Args>
void launch_threads(LaunchContext on, void (*kernel)(Params...), std::int64_t n, Args... args) {
  if (n <= 0) return;
  llsa::simt::launch(kernel, grid_of(ceil_div(n, kThreads)), dim3(kThreads), 0, on.stream(), args...);
}

/// Starts a warp for each of n pieces; a kernel finds its own by piece_of_warp() and checks it against n.
template <class... Params, class... Args>
void launch_warps(LaunchContext on, void (*kernel)(Params...), std::int64_t n, Args... args) {
  if (n <= 0) return;
  llsa::simt::launch(kernel, grid_of(ceil_div(n, kWarps)), dim3(kWarps * 32), 0, on.stream(), args...);
}

__device__ inline std::int64_t piece_of_thread() {
  return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline std::int64_t piece_of_warp() {
  return static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
}
__device__ inline int lane_of_thread() { return static_cast<int>(threadIdx.x % 32); }

/// Sum over the lanes of a warp, with the same bits in every lane: each step adds the same two numbers on
/// both sides.
template <class A>
__device__ A warp_sum(A value) {
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(kAllLanes, value, step);
  return value;
}

/// Largest value over the lanes; NaN is passed over unless there is nothing else.
template <class A>
__device__ A warp_max(A value) {
  for (int step = 16; step > 0; step /= 2) {
    const A other = __shfl_xor_sync(kAllLanes, value, step);
    value = other > value ? other : value;
  }
  return value;
}

}  // namespace llsa::kernels::cuda

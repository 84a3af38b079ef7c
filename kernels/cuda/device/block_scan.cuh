// Prefix sums by one block.
#pragma once

#include <cstdint>

#include "launch.cuh"

namespace llsa::kernels::cuda {

constexpr int kScanThreads = 256;

/// Called by all kScanThreads threads of a block: put(j, sum of get(0) .. get(j - 1)) for j = 0 .. n. Every
/// thread takes a run of neighbours: get(j) is called by the thread that later puts j, twice, the second time
/// just before put(j).
template <class Get, class Put>
__device__ void block_exclusive_scan(std::int64_t n, Get get, Put put) {
  SIMT_SHARED(warp_total, std::int32_t[kScanThreads / 32]);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const std::int64_t run = (n + kScanThreads - 1) / kScanThreads;
  const std::int64_t first = thread * run < n ? thread * run : n;
  const std::int64_t end = first + run < n ? first + run : n;
  std::int32_t total = 0;
  for (std::int64_t j = first; j < end; ++j) total += get(j);
  std::int32_t before = total;  // inclusive, then exclusive
  for (int step = 1; step < 32; step *= 2) {
    const std::int32_t other = __shfl_up_sync(kAllLanes, before, step);
    if (lane >= step) before += other;
  }
  if (lane == 31) warp_total[warp] = before;
  before -= total;
  __syncthreads();
  for (int w = 0; w < warp; ++w) before += warp_total[w];
  __syncthreads();
  for (std::int64_t j = first; j < end; ++j) {
    const std::int32_t value = get(j);
    put(j, before);
    before += value;
  }
  // The thread whose run reaches the end knows the total; with n = 0 it is the last thread, with an empty run.
  if (thread == kScanThreads - 1) {
    std::int32_t all = 0;
    for (int w = 0; w < kScanThreads / 32; ++w) all += warp_total[w];
    put(n, all);
  }
}

}  // namespace llsa::kernels::cuda

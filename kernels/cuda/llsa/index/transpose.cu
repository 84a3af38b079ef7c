// Index lists by key (CSR to CSC): the counterpart of kernels/cpu/llsa_stages.cpp.
//
// A counting sort that needs no atomics and whose order is fixed. The rows of a head are cut into chunks, one
// warp each. A row's entries are distinct, so the lanes of a warp can take them together, row after row:
//
//     count    n[c][j]   = how often chunk c holds key j
//     scan     offset[j] = sum over the keys before j; n[c][j] becomes where chunk c begins in the list of j
//     fill     query[n[c][j]++] = row
//
// The scan has a block per head and a run of keys per thread. Counters are in shared memory where the keys
// fit (48 KiB), else in global memory. Bytes: the table twice and query once, 4 per entry; counters of 4 per
// key and chunk, written twice and read four times; integer work only. Bound by the latency of the row loop,
// in which as many lanes work as a row has entries; hence the chunks: at most 32 per head, of at least 32
// rows.
#include "kernels/cuda/device/block_scan.cuh"
#include "kernels/cuda/llsa/llsa.h"
#include "kernels/cuda/llsa/operands.cuh"

namespace llsa::kernels::cuda {
namespace {

constexpr std::int64_t kMaxChunks = 32, kMinRows = 32;
constexpr std::int64_t kSharedKeys = 12 * 1024;

struct Table {
  const std::int32_t* entries;  // [heads, rows, width]
  std::int64_t rows, keys, rows_per_chunk, chunks;
  int width;
  bool shared;  // counters in shared memory
};

/// Block (chunk, head) of one warp: calls visit(row, key) for the valid entries of its rows, in order.
template <class Visit>
__device__ void for_entries(const Table& t, Visit visit) {
  const std::int64_t first = blockIdx.x * t.rows_per_chunk;
  const std::int64_t end = first + t.rows_per_chunk < t.rows ? first + t.rows_per_chunk : t.rows;
  for (std::int64_t row = first; row < end; ++row) {
    const std::int32_t* const entries = t.entries + (blockIdx.y * t.rows + row) * t.width;
    for (int e = static_cast<int>(threadIdx.x); e < t.width; e += 32) {
      const std::int32_t key = entries[e];
      if (key >= 0 && key < t.keys) visit(row, key);
    }
    __syncwarp();
  }
}

__device__ std::int32_t* counters_of(const Table& t, std::int32_t* counts) {
  return counts + (blockIdx.y * t.chunks + blockIdx.x) * t.keys;
}

__global__ void count_entries(Table t, std::int32_t* counts) {
  SIMT_DYNAMIC_SHARED(memory);
  std::int32_t* const global = counters_of(t, counts);
  std::int32_t* const counter = t.shared ? reinterpret_cast<std::int32_t*>(memory) : global;
  for (std::int64_t j = threadIdx.x; j < t.keys; j += 32) counter[j] = 0;
  __syncwarp();
  for_entries(t, [&](std::int64_t, std::int32_t key) { ++counter[key]; });
  if (!t.shared) return;
  for (std::int64_t j = threadIdx.x; j < t.keys; j += 32) global[j] = counter[j];
}

/// One block per head.
__global__ void __launch_bounds__(kScanThreads)
    scan_counts(Table t, std::int32_t* counts, std::int32_t* offset) {
  std::int32_t* const of_head = counts + blockIdx.x * t.chunks * t.keys;
  std::int32_t* const out = offset + blockIdx.x * (t.keys + 1);
  block_exclusive_scan(
      t.keys,
      [&](std::int64_t j) {
        std::int32_t sum = 0;
        for (std::int64_t c = 0; c < t.chunks; ++c) sum += of_head[c * t.keys + j];
        return sum;
      },
      [&](std::int64_t j, std::int32_t begin) {
        out[j] = begin;
        if (j == t.keys) return;
        for (std::int64_t c = 0; c < t.chunks; ++c) {
          const std::int32_t n = of_head[c * t.keys + j];
          of_head[c * t.keys + j] = begin;
          begin += n;
        }
      });
}

__global__ void fill_queries(Table t, std::int32_t* counts, std::int32_t* query) {
  SIMT_DYNAMIC_SHARED(memory);
  std::int32_t* const global = counters_of(t, counts);
  std::int32_t* const cursor = t.shared ? reinterpret_cast<std::int32_t*>(memory) : global;
  std::int32_t* const out = query + blockIdx.y * t.rows * t.width;
  if (t.shared)
    for (std::int64_t j = threadIdx.x; j < t.keys; j += 32) cursor[j] = global[j];
  __syncwarp();
  for_entries(
      t, [&](std::int64_t row, std::int32_t key) { out[cursor[key]++] = static_cast<std::int32_t>(row); });
}

}  // namespace

void index_transpose(Context& ctx, const Tensor& index, std::int64_t keys, const Tensor& offset,
                     const Tensor& query) {
  const std::int64_t heads = index.size(0) * index.size(1), rows = index.size(2);
  if (heads == 0) return;
  const std::int64_t rows_per_chunk = std::max(kMinRows, ceil_div(rows, kMaxChunks));
  const std::int64_t chunks = std::max<std::int64_t>(1, ceil_div(rows, rows_per_chunk));
  const Table table = {
      index.data<std::int32_t>(), rows, keys, rows_per_chunk, chunks, static_cast<int>(index.size(3)),
      keys <= kSharedKeys};
  const Tensor counts = ctx.empty({heads, chunks, std::max<std::int64_t>(keys, 1)}, DType::i32);
  const std::size_t shared = table.shared ? static_cast<std::size_t>(keys) * 4 : 0;
  const dim3 grid = head_grid(chunks, heads);
  simt::launch(count_entries, grid, dim3(32), shared, stream_of(ctx), table, counts.data<std::int32_t>());
  simt::launch(scan_counts, grid_of(heads), dim3(kScanThreads), 0, stream_of(ctx), table,
               counts.data<std::int32_t>(), offset.data<std::int32_t>());
  simt::launch(fill_queries, grid, dim3(32), shared, stream_of(ctx), table, counts.data<std::int32_t>(),
               query.data<std::int32_t>());
}

}  // namespace llsa::kernels::cuda

// Work lists: a block of threads per head, which sorts the items by counting. A thread owns a run of blocks.
//
//     tiles   T of every block, into shared memory
//     count   slots of the thread's split blocks; n[class][thread]: its items
//     scan    both become where the thread's begin: slots in order, items heavy classes first, then in order
//     fill    slots and items
//
// Integer work. Bytes: 8 per block (12 if the last node is partly filled) are read, once if there are at most
// kMostKept, otherwise three times; written 16 per item, 8 per slot. 17 KiB of shared memory for n, and 4 bytes
// per block. Bound by the latency of one block's loops, in which a thread has 1/256 of the lists. No atomics.
#include "kernels/cuda/llsa/index/work_list.cuh"

#include "kernels/cuda/device/block_scan.cuh"

namespace llsa::kernels::cuda {
namespace {

constexpr int kClasses = 16;
constexpr std::int64_t kMostKept = 16 * 1024;  // blocks whose tiles are kept in shared memory, 68 KiB

struct Items {
  WorkItem* item;       // [heads, items]
  SplitBlock* split;    // [heads, slots]
  std::int32_t* count;  // [heads, 2]
  std::int64_t items, slots;
  int cap;

  __device__ int pieces(int tiles) const { return tiles > cap ? (tiles - 1) / cap + 1 : 1; }
  /// 0 for the heaviest items.
  __device__ int class_of(int tiles) const { return (cap - tiles) * (kClasses - 1) / cap; }
};

/// Places of numbers in shared memory, with one left out after every 16: a thread takes a run of them, often 16,
/// and the threads of a warp should meet different banks.
__host__ __device__ constexpr std::int64_t spread(std::int64_t i) { return i + (i >> 4); }

__global__ void __launch_bounds__(kScanThreads) cut_lists(QueryLists lists, Items out) {
  SIMT_DYNAMIC_SHARED(memory);
  std::int32_t* const begin = reinterpret_cast<std::int32_t*>(memory);
  std::int32_t* const kept = begin + spread(kClasses * kScanThreads);
  const std::int64_t head = blockIdx.x, blocks = lists.blocks;
  const int thread = static_cast<int>(threadIdx.x);
  const std::int64_t run = (blocks + kScanThreads - 1) / kScanThreads;
  const std::int64_t first = thread * run < blocks ? thread * run : blocks;
  const std::int64_t end = first + run < blocks ? first + run : blocks;

  const bool keep = blocks <= kMostKept;
  if (keep)
    for (std::int64_t j = thread; j < blocks; j += kScanThreads) kept[spread(j)] = lists.tiles(head, j);
  for (int c = 0; c < kClasses; ++c) begin[spread(c * kScanThreads + thread)] = 0;
  __syncthreads();
  const auto tiles_of = [&](std::int64_t j) { return keep ? kept[spread(j)] : lists.tiles(head, j); };
  const auto items_of = [&](int tiles) -> std::int32_t& {  // of the class, of this thread
    return begin[spread(out.class_of(tiles) * kScanThreads + thread)];
  };

  int slots = 0;
  for (std::int64_t j = first; j < end; ++j) {
    const int tiles = tiles_of(j), pieces = out.pieces(tiles);
    if (pieces > 1) {
      slots += pieces;
      items_of(out.cap) += pieces - 1;  // all but the last are full
    }
    ++items_of(tiles - (pieces - 1) * out.cap);
  }
  __syncthreads();
  int slot = 0;
  block_exclusive_scan(
      kScanThreads, [&](std::int64_t) { return slots; },
      [&](std::int64_t i, std::int32_t before) {
        (i < kScanThreads ? slot : out.count[2 * head + 1]) = before;
      });
  block_exclusive_scan(
      kClasses * kScanThreads, [&](std::int64_t i) { return begin[spread(i)]; },
      [&](std::int64_t i, std::int32_t before) {
        (i < kClasses * kScanThreads ? begin[spread(i)] : out.count[2 * head]) = before;
      });
  __syncthreads();
  for (std::int64_t j = first; j < end; ++j) {
    const int tiles = tiles_of(j), pieces = out.pieces(tiles);
    const auto block = static_cast<std::int32_t>(j);
    // Hardly ever more than one.
    SIMT_NO_UNROLL
    for (int p = 0; p < pieces; ++p) {
      const int at = p * out.cap, mine = p < pieces - 1 ? out.cap : tiles - at;
      const int place = pieces > 1 ? slot++ : -1;
      out.item[head * out.items + items_of(mine)++] = {block, at, mine, place};
      if (place >= 0) out.split[head * out.slots + place] = {block, p == 0 ? pieces : 0};
    }
  }
}

}  // namespace

WorkList work_list(Context& ctx, const IndexTranspose& lists, std::int64_t queries, int node_shift, int cap) {
  const QueryLists view(lists, queries, node_shift);
  const std::int64_t b = lists.offset.size(0), h = lists.offset.size(1);
  const std::int64_t tiles_of_node =
      std::min(std::int64_t{1} << view.tile_shift, ceil_div(queries, 1 << kTileShift));
  const std::int64_t tiles = view.entries * tiles_of_node;  // at most
  const std::int64_t items = view.blocks + tiles / cap;
  // A block that is split has more than `cap` tiles, and one partly filled item.
  const std::int64_t slots = tiles / cap + std::min(view.blocks, tiles / (cap + 1));
  const WorkList list = {ctx.empty({b, h, items, 4}, DType::i32),
                         ctx.empty({b, h, std::max<std::int64_t>(slots, 1), 2}, DType::i32),
                         ctx.empty({b, h, 2}, DType::i32)};
  const std::int64_t kept = view.blocks <= kMostKept ? view.blocks : 0;
  const std::int64_t shared = spread(kClasses * kScanThreads) + spread(kept);
  simt::launch(cut_lists, grid_of(b * h), dim3(kScanThreads),
               static_cast<std::size_t>(shared) * sizeof(std::int32_t), stream_of(ctx), view,
               Items{reinterpret_cast<WorkItem*>(list.item.data<std::int32_t>()),
                     reinterpret_cast<SplitBlock*>(list.split.data<std::int32_t>()),
                     list.count.data<std::int32_t>(), items, list.split.size(2), cap});
  return list;
}

}  // namespace llsa::kernels::cuda

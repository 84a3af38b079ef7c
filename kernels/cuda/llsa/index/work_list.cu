// Work lists: a block of threads per head, which reads the lengths of the lists five times and sorts the
// items by counting.
//
//     slots   first slot of a block = sum over the blocks before it of ceil(T / cap), split ones only
//     count   n[class][thread]: items of the run of blocks that the thread owns
//     scan    n becomes where the items of this class and thread begin: heavy classes first, then in order
//     fill    the items
//
// Integer work. Bytes: 8 per block and reading (12 if the last node is partly filled), after the first from
// caches; written 4 per block, 16 per item, 8 per slot. 16 KiB of shared memory for n. Bound by the latency
// of one block's loops, in which a thread has 1/256 of the lists. No atomics.
#include "kernels/cuda/llsa/index/work_list.cuh"

#include "kernels/cuda/device/block_scan.cuh"

namespace llsa::kernels::cuda {
namespace {

constexpr int kClasses = 16;

struct Items {
  WorkItem* item;            // [heads, items]
  SplitBlock* split;         // [heads, slots]
  std::int32_t* first_slot;  // [heads, blocks]
  std::int32_t* count;       // [heads, 2]
  std::int64_t items, slots;
  int cap;

  __device__ int pieces(int tiles) const { return tiles > cap ? (tiles - 1) / cap + 1 : 1; }
  /// 0 for the heaviest items.
  __device__ int class_of(int tiles) const { return (cap - tiles) * (kClasses - 1) / cap; }
};

__global__ void __launch_bounds__(kScanThreads) cut_lists(QueryLists lists, Items out) {
  SIMT_SHARED(begin, std::int32_t[kClasses * kScanThreads]);
  const std::int64_t head = blockIdx.x, blocks = lists.blocks;
  const int thread = static_cast<int>(threadIdx.x);
  std::int32_t* const first_slot = out.first_slot + head * blocks;
  std::int32_t* const count = out.count + 2 * head;
  const auto slots_of = [&](std::int64_t j) {
    const int pieces = out.pieces(lists.tiles(head, j));
    return pieces > 1 ? pieces : 0;
  };
  block_exclusive_scan(blocks, slots_of, [&](std::int64_t j, std::int32_t before) {
    if (j == blocks) {
      count[1] = before;
      return;
    }
    first_slot[j] = before;
    SplitBlock* const split = out.split + (head * out.slots + before);
    const int pieces = slots_of(j);
    for (int p = 0; p < pieces; ++p) split[p] = {static_cast<std::int32_t>(j), p == 0 ? pieces : 0};
  });

  const std::int64_t run = (blocks + kScanThreads - 1) / kScanThreads;
  const std::int64_t first = thread * run < blocks ? thread * run : blocks;
  const std::int64_t end = first + run < blocks ? first + run : blocks;
  for (int c = 0; c < kClasses; ++c) begin[c * kScanThreads + thread] = 0;
  for (std::int64_t j = first; j < end; ++j) {
    const int tiles = lists.tiles(head, j), pieces = out.pieces(tiles);
    begin[thread] += pieces - 1;  // all but the last are full
    ++begin[out.class_of(tiles - (pieces - 1) * out.cap) * kScanThreads + thread];
  }
  __syncthreads();
  block_exclusive_scan(
      kClasses * kScanThreads, [&](std::int64_t i) { return begin[i]; },
      [&](std::int64_t i, std::int32_t before) {
        if (i == kClasses * kScanThreads)
          count[0] = before;
        else
          begin[i] = before;
      });
  __syncthreads();
  WorkItem* const item = out.item + head * out.items;
  for (std::int64_t j = first; j < end; ++j) {
    const int tiles = lists.tiles(head, j), pieces = out.pieces(tiles);
    for (int p = 0; p < pieces; ++p) {
      const int at = p * out.cap, mine = p < pieces - 1 ? out.cap : tiles - at;
      item[begin[out.class_of(mine) * kScanThreads + thread]++] = {static_cast<std::int32_t>(j), at, mine,
                                                                   pieces > 1 ? first_slot[j] + p : -1};
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
  const Tensor first_slot = ctx.empty({b, h, view.blocks}, DType::i32);
  simt::launch(
      cut_lists, grid_of(b * h), dim3(kScanThreads), 0, stream_of(ctx), view,
      Items{reinterpret_cast<WorkItem*>(list.item.data<std::int32_t>()),
            reinterpret_cast<SplitBlock*>(list.split.data<std::int32_t>()), first_slot.data<std::int32_t>(),
            list.count.data<std::int32_t>(), items, list.split.size(2), cap});
  return list;
}

}  // namespace llsa::kernels::cuda

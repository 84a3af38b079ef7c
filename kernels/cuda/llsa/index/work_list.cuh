// Index lists by key as kernels read them: in tiles of 16 queries.
#pragma once

#include "../../device/launch.cuh"
#include "../../device/types.cuh"
#include "../llsa.h"

namespace llsa::kernels::cuda {

constexpr int kTileShift = 4;  // log2 of the queries of a tile

/// The lists of a level. An entry is a node of 2^node_shift queries; entries ascend, so the last node, which
/// may be partly filled, comes last.
struct QueryLists {
  const std::int32_t* offset = nullptr;  // [heads, blocks + 1]
  const std::int32_t* node = nullptr;    // [heads, entries]
  std::int64_t blocks = 0, entries = 0;
  int tile_shift = 0;  // log2 of the tiles of a node
  int last_node = 0;
  int missing = 0;  // tiles that the last node lacks

  QueryLists() = default;
  QueryLists(const IndexTranspose& lists, std::int64_t queries, int node_shift)
      : offset(lists.offset.data<std::int32_t>()),
        node(lists.query.data<std::int32_t>()),
        blocks(lists.offset.size(2) - 1),
        entries(lists.query.size(2)),
        tile_shift(node_shift - kTileShift) {
    const std::int64_t nodes = ceil_div(queries, std::int64_t{1} << node_shift);
    last_node = static_cast<int>(nodes - 1);
    missing = static_cast<int>((nodes << tile_shift) - ceil_div(queries, 1 << kTileShift));
  }

  /// The list of a block.
  __device__ const std::int32_t* nodes(std::int64_t head, std::int64_t block) const {
    return node + (head * entries + offset[head * (blocks + 1) + block]);
  }
  /// Tiles in it.
  __device__ int tiles(std::int64_t head, std::int64_t block) const {
    const std::int32_t* const at = offset + (head * (blocks + 1) + block);
    const std::int32_t begin = at[0], end = at[1];
    const int all = (end - begin) << tile_shift;
    return missing > 0 && end > begin && node[head * entries + end - 1] == last_node ? all - missing : all;
  }
  /// First query of a tile of a list.
  __device__ __forceinline__ int query(const std::int32_t* nodes, int tile) const {
    return (((nodes[tile >> tile_shift] << tile_shift) + (tile & ((1 << tile_shift) - 1))) << kTileShift);
  }
};

}  // namespace llsa::kernels::cuda

// Work lists of the key-major half of the backward pass.
//
// The queries that attend to the keys of a block are tiles of 16; how many there are differs from block to
// block by two orders of magnitude, and a third of the blocks may have none. So every list is cut into items
// of at most `cap` tiles, heaviest first. An empty list is an item of no tiles, because its keys still get
// the gradients of the levels above. Blocks of several items are summed up afterwards, item by item, from
// partial results in numbered slots: which item runs where and when leaves no trace in the result.
#pragma once

#include "../../../llsa.h"

namespace llsa::kernels::cuda {

/// Query tiles first .. first + tiles - 1 of a block's list. slot -1: the whole list; otherwise where the
/// partial result goes.
struct WorkItem {
  std::int32_t block, first, tiles, slot;
};

/// What a slot belongs to: `pieces` slots from the first slot of a block on, 0 for its other slots.
struct SplitBlock {
  std::int32_t block, pieces;
};

/// Made on the device. The host knows bounds only: a head's arrays hold as many elements as count says.
struct WorkList {
  Tensor item;   ///< i32 [b,H,items,4], WorkItem
  Tensor split;  ///< i32 [b,H,slots,2], SplitBlock
  Tensor count;  ///< i32 [b,H,2]: items, slots
};

/// The items of lists by key whose nodes are 2^node_shift queries each, 4 <= node_shift <= 30, the last node
/// fewer. Items are sorted by sixteen classes of weight, within a class by block and piece.
WorkList work_list(Context& ctx, const IndexTranspose& lists, std::int64_t queries, int node_shift, int cap);

}  // namespace llsa::kernels::cuda

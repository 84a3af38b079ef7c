// Gradients of the keys below picks: the fine ones (level 0), and those of the levels 1 <= l < L. The maths
// and the products are in mma/keys.cuh.
//
// The keys of node j of level l + 1 share one list: the query nodes that hold j in I_{l+1}, of B^(l+1)
// queries each. An item of the work list is a piece of such a list. A warp takes 16 of its keys, and the B /
// 16 warps of a team go through the tiles of 16 queries together, with a ring of copies that runs ahead by
// two tiles, or by one: at D = 128, and where a multiprocessor has memory for more blocks then. At level 0
// lists are short, and each of the block's teams has an item of its own. Above, where lists are B times as
// long, all teams of a block share an item, take its tiles in turn and are added up in a fixed order.
//
// At D = 64, per pair of 16 queries and 16 keys: 32 mma (131,072 FLOP), 256 exponentials, 16 ldmatrix of 512
// bytes, and per team 4.2 KB of Q, dO and terms from L2. Bound by shared memory: ldmatrix and fill. At N =
// 65,536, B = 16, K = 8 a head has 32,768 pairs at level 0 and as many at level 1. Written once: 4 D bytes
// per fine key, 8 D per coarse one, 8 D per key and slot of a list that was cut.
#include "kernels/cuda/llsa/index/work_list.cuh"
#include "kernels/cuda/llsa/mma/keys.cuh"

namespace llsa::kernels::cuda {
namespace {

/// Rings of 16 queries, one per team of warps with the same list. 12 warps per multiprocessor at D = 64 (at
/// most 168 registers, 152 KB of rings of three stages at B = 16), 16 at 32, 8 at 128.
template <int D, int warps, int stages>
struct Teams {
  using Stage = QueryStage<D, 16>;
  static constexpr int kPerProcessor = D == 32 ? 4 : D == 64 ? 3 : 2;
  static constexpr int kStages = stages;
  static constexpr int kTeams = kKeyWarps / warps;
  static constexpr unsigned kRing = kStages * Stage::kBytes;
  /// A ring per team; afterwards the sums of all teams but the first.
  static constexpr unsigned kSums = (kTeams - 1) * warps * WarpKeys<D, 1>::kSums * 32 * 4;
  static constexpr unsigned bytes(bool fine) {
    return !fine && kSums > kTeams * kRing ? kSums : kTeams * kRing;
  }
};

/// Stages of a ring where a multiprocessor has room for them.
template <int D>
constexpr int kMostStages = D == 128 ? 2 : 3;

struct Items {
  const WorkItem* item;       // [heads, items]
  const std::int32_t* count;  // [heads, 2]
  std::int64_t items;
};

template <int D, int warps, bool fine, int stages>
__global__ void __launch_bounds__(kKeyThreads, (Teams<D, warps, stages>::kPerProcessor))
    listed_keys(KeyLevel level, QueryLists lists, Items work, PartialSums partial) {
  SIMT_DYNAMIC_SHARED(memory);
  using T = Teams<D, warps, stages>;
  constexpr int kStep = fine ? 1 : T::kTeams;  // teams that take tiles in turn
  const unsigned thread = threadIdx.x;         // its quotients are shifts
  const int lane = static_cast<int>(thread % 32), warp = static_cast<int>(thread / 32);
  const int team = warp / warps, member = warp % warps, head = static_cast<int>(blockIdx.y);
  const auto index_of = [](int of_team) {
    return fine ? static_cast<std::int64_t>(blockIdx.x) * T::kTeams + of_team : blockIdx.x;
  };
  const auto item_of = [&](int of_head, int of_team) {
    return work.item[of_head * work.items + index_of(of_team)];
  };
  if (index_of(team) >= work.count[2 * head]) return;  // whole teams leave, above level 0 whole blocks
  WarpKeys<D, 1> keys;
  const QueryCopy<D, 16, 32 * warps, true> copy(level, head_queries(level, head), thread % (32 * warps));
  const unsigned char* const ring = memory + team * T::kRing;
  const unsigned ring_address = simt::smem_address(ring);
  {
    const WorkItem item = item_of(head, team);
    keys.load(level, head, (item.block << level.shift) + 16 * member, lane);
    const std::int32_t* const nodes = lists.nodes(head, item.block);
    const int end = item.first + item.tiles;
    int tile = item.first + (fine ? 0 : team);
    int query = tile < end ? lists.query(nodes, tile) : 0;  // of the next copy
    const auto copy_tile = [&](int t, int stage) {
      if (t < end) {
        copy(level, query, ring_address + static_cast<unsigned>(stage) * T::Stage::kBytes);
        if (t + kStep < end) query = lists.query(nodes, t + kStep);  // on its way until the next copy
      }
      ptx::cp_async_commit();
    };
    SIMT_UNROLL
    for (int stage = 0; stage < T::kStages - 1; ++stage) copy_tile(tile + stage * kStep, stage);
    for (int stage = 0; tile < end; tile += kStep) {
      ptx::cp_async_wait<T::kStages - 2>();
      if constexpr (warps == 1)  // this tile has come, and no warp uses the one before any longer
        __syncwarp();
      else
        ptx::named_barrier(1 + team, 32 * warps);
      copy_tile(tile + (T::kStages - 1) * kStep, stage == 0 ? T::kStages - 1 : stage - 1);
      const unsigned at = static_cast<unsigned>(stage) * T::Stage::kBytes;
      keys.template add<16>(level.base2_scale, ring_address + at,
                            reinterpret_cast<const float*>(ring + at + T::Stage::kTerms), 0, lane);
      stage = stage + 1 == T::kStages ? 0 : stage + 1;
    }
    ptx::cp_async_wait<0>();
  }

  if constexpr (kStep > 1) {
    keys.add_groups(memory, kStep, warps, warp, lane);
    if (team > 0) return;
  }
  // The item and the place are read again, so that they need no registers until here.
  const int again = ptx::thread_number(), row = again / 32 % warps * 16, head_again = ptx::block_number_y();
  const WorkItem item = item_of(head_again, again / 32 / warps);
  keys.finish(level, head_again, (item.block << level.shift) + row,
              item.slot < 0 ? nullptr : partial.slot(head_again, item.slot, D), 16 * warps, row, again % 32);
}

template <int D, int warps, bool fine, int stages = kMostStages<D>>
void launch_listed(Context& ctx, std::int64_t heads, const KeyLevel& level, const QueryLists& lists,
                   const Items& work, const PartialSums& partial) {
  using T = Teams<D, warps, stages>;
  if constexpr (stages == 3 && warps == 1)  // larger blocks of keys have fewer rings
    if (listed_keys_ring(D).stages(shared_memory_of_processor(ctx)) == 2)
      return launch_listed<D, warps, fine, 2>(ctx, heads, level, lists, work, partial);
  simt::launch(listed_keys<D, warps, fine, stages>,
               head_grid(fine ? ceil_div(work.items, T::kTeams) : work.items, heads), dim3(kKeyThreads),
               T::bytes(fine), stream_of(ctx), level, lists, work, partial);
}

template <int D, bool fine>
void launch_for_block(Context& ctx, int block, std::int64_t heads, const KeyLevel& level,
                      const QueryLists& lists, const Items& work, const PartialSums& partial) {
  const auto launch = block == 16   ? launch_listed<D, 1, fine>
                      : block == 32 ? launch_listed<D, 2, fine>
                                    : launch_listed<D, 4, fine>;
  launch(ctx, heads, level, lists, work, partial);
}

}  // namespace

Ring listed_keys_ring(std::int64_t d) {
  Ring ring;
  visit_head_dimension(d, [&]<int D>() {
    using T = Teams<D, 1, kMostStages<D>>;
    ring = {T::kTeams * T::Stage::kBytes, 0, T::kPerProcessor};
  });
  return ring;
}

void listed_keys_backward(Context& ctx, const KeyProblem& problem, const IndexTranspose& by_key) {
  const LlsaPlan& plan = problem.args.plan;
  const std::int64_t b = problem.args.q.size(0), h = problem.args.q.size(1);
  const bool fine = problem.level == 0;
  const int node_shift = std::min(log2_of(plan.block) * (problem.level + 1), 30);
  // 64 nodes of a fine list, eight times the usual length; above, as much for each of four warps at B = 16.
  const int cap = fine ? 64 * (plan.block / 16) : 256;
  const WorkList list = work_list(ctx, by_key, plan.tokens, node_shift, cap);

  const KeyLevel level(problem);
  PartialSums partial;
  partial.split = reinterpret_cast<const SplitBlock*>(list.split.data<std::int32_t>());
  partial.count = list.count.data<std::int32_t>();
  partial.slots = list.split.size(2);
  partial.keys_of_block = plan.block;
  const Tensor sums = ctx.empty({b, h, partial.slots, 2 * plan.block * level.d}, DType::f32);
  partial.sums = sums.data<float>();
  const Items work = {reinterpret_cast<const WorkItem*>(list.item.data<std::int32_t>()), partial.count,
                      list.item.size(2)};
  const QueryLists lists(by_key, plan.tokens, node_shift);
  visit_head_dimension(level.d, [&]<int D>() {
    (fine ? launch_for_block<D, true> : launch_for_block<D, false>)(ctx, plan.block, b * h, level, lists,
                                                                    work, partial);
  });
  add_partial_sums(ctx, level, b * h, partial);
}

}  // namespace llsa::kernels::cuda

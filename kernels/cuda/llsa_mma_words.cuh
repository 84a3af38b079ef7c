// Fine blocks by bit words: the query blocks of a thread block are siblings, and what any of them picked
// stands in the words of their parent, R_1 (llsa_words.cu). From these the warps make a list of key blocks,
// each with a bit for every query block that picked it. The blocks are copied once for all, a stage of as
// many keys as the thread block has queries while the one before is used; the warps whose bit is set use
// them. One barrier per stage.
//
// What this saves against rows is the fill, 4 KB of K and V for every pick of a block that a sibling picked,
// too. What it costs is that a stage lasts as long as its busiest warp. Which is more has not been measured;
// `llsa bench attention` has an arm for each.
#pragma once

#include "llsa_mma_walk.cuh"

namespace llsa::kernels::cuda {

/// The key blocks that the query blocks of a thread block picked, each once, ascending; and where fine keys
/// are.
struct PickedTogether {
  static constexpr int kMost = 512;
  static constexpr std::int64_t kMostBlocks = 1 << 24;  // what an entry can name

  const Element* k;
  const Element* v;
  int k_stride, v_stride;
  int length;
  int found[8];                // by each warp
  std::uint32_t entry[kMost];  // key block << 8 | the query blocks that picked it, a bit each
};

/// Makes the list from the words of the parent; by all threads of a block, with a barrier at the end.
template <class Q>
__device__ __forceinline__ void list_picked_together(const AttendedSet<Element>& set, int shift, int head,
                                                     int block_first, PickedTogether& list) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int siblings = Q::kWarps >> (shift - 4), query_block = block_first >> shift;
  const int parent = query_block >> shift, bit = query_block - (parent << shift);
  const auto& above = set.level[2];
  const std::int64_t row = head * above.count + parent;
  const std::int32_t* const picks = above.picks + row * above.width;
  const int units = 1 << (shift - 4), positions = above.width << shift;
  const std::uint16_t* const words = set.words + row * positions * units + bit / 16;
  const int keys = static_cast<int>(set.level[1].count);

  // A warp takes a run of positions, counts first, then writes behind the warps before it.
  const int run = (positions + 32 * Q::kWarps - 1) / (32 * Q::kWarps) * 32;
  const int first = warp * run, end = min(first + run, positions);
  const auto entry_at = [&](int p) -> std::uint32_t {  // 0: nobody picked it
    if (p >= end) return 0;
    const std::uint32_t bits =
        words[static_cast<std::int64_t>(p) * units] >> bit % 16 & ((1u << siblings) - 1);
    if (bits == 0) return 0;
    const std::int32_t j = picks[p >> shift];
    const int key = (j << shift) + (p & ((1 << shift) - 1));
    return j < 0 || j >= above.count || key >= keys ? 0 : static_cast<std::uint32_t>(key) << 8 | bits;
  };
  int found = 0;
  for (int p = first; p < end; p += 32) found += __popc(__ballot_sync(kAllLanes, entry_at(p + lane) != 0));
  if (lane == 0) list.found[warp] = found;
  if (thread == 0) {
    list.k = set.k_head(0, head);
    list.v = set.v_head(0, head);
    list.k_stride = static_cast<int>(set.k_stride(0));
    list.v_stride = static_cast<int>(set.v_stride(0));
  }
  __syncthreads();
  int at = 0;
  for (int w = 0; w < warp; ++w) at += list.found[w];
  if (thread == Q::kThreads - 1) list.length = min(at + found, PickedTogether::kMost);
  for (int p = first; p < end; p += 32) {
    const std::uint32_t entry = entry_at(p + lane);
    const unsigned there = __ballot_sync(kAllLanes, entry != 0);
    const int to = at + __popc(there & ((1u << lane) - 1));
    if (entry != 0 && to < PickedTogether::kMost) list.entry[to] = entry;
    at += __popc(there);
  }
  __syncthreads();
}

/// Copies the keys and values of entries `first` on into a stage, 16 rows for each warp.
template <class Q>
__device__ __forceinline__ void copy_picked_together(const PickedTogether& list, int first, int shift,
                                                     int tokens, unsigned stage, int thread) {
  constexpr int D = Q::kD, kChunks = D / 8;
  SIMT_UNROLL
  for (int i = 0; i < 16 * Q::kWarps * kChunks / Q::kThreads; ++i) {
    const int at = thread + i * Q::kThreads, row = at / kChunks, chunk = at % kChunks;
    const int e = first + (row >> shift);
    if (e >= list.length) break;  // nobody looks there
    const int token = static_cast<int>(list.entry[e] >> 8 << shift) + (row & ((1 << shift) - 1));
    const unsigned to = stage + piece_offset<D>(row, chunk), bytes = token < tokens ? 16 : 0;
    ptx::cp_async16(to, list.k + (static_cast<std::int64_t>(token) * list.k_stride + chunk * 8), bytes);
    ptx::cp_async16(to + 32 * D, list.v + (static_cast<std::int64_t>(token) * list.v_stride + chunk * 8),
                    bytes);
  }
}

/// Fine blocks by words: what siblings picked together.
template <class Q>
struct FineByWords {
  using Shared = PickedTogether;

  static __device__ __forceinline__ unsigned stage_at(unsigned memory, int stage) {
    return memory + Q::kRings + static_cast<unsigned>(stage * Q::kWarps) * Q::kPiece;
  }

  static __device__ __forceinline__ void begin(const AttendedSet<Element>& set, int shift, int head,
                                               const WarpQueries<Q>& mine, unsigned memory, Shared& shared) {
    list_picked_together<Q>(set, shift, head, mine.block_first, shared);
    copy_picked_together<Q>(shared, 0, shift, static_cast<int>(set.queries), stage_at(memory, 0),
                            static_cast<int>(threadIdx.x));
  }

  template <class Step>
  static __device__ __forceinline__ void walk(const AttendedSet<Element>& set, int shift,
                                              const WarpQueries<Q>& mine, unsigned memory, Shared& shared,
                                              Step& step) {
    const int warps = 1 << (shift - 4), siblings = Q::kWarps / warps;
    const int tokens = static_cast<int>(set.queries);
    for (int first = 0; first < shared.length; first += siblings) {
      // The thread's number is read anew, lest what follows from it be held in registers all the while.
      const int thread = ptx::thread_number(), lane = thread % 32, stage = first / siblings % 2;
      ptx::cp_async_wait<0>();
      __syncthreads();
      copy_picked_together<Q>(shared, first + siblings, shift, tokens, stage_at(memory, stage ^ 1), thread);
      ptx::cp_async_commit();
      const bool picked = mine.rows > 0 && lane < siblings && first + lane < shared.length &&
                          (shared.entry[first + lane] >> thread / 32 / warps & 1) != 0;
      for (unsigned todo = __ballot_sync(kAllLanes, picked); todo != 0; todo &= todo - 1) {
        const int at = __ffs(static_cast<int>(todo)) - 1;
        step_through_block<Q>(
            stage_at(memory, stage) + static_cast<unsigned>(at * warps) * Q::kPiece, warps, step,
            [&] { return tokens - static_cast<int>(shared.entry[first + at] >> 8 << shift); });
      }
    }
  }
};

/// Whether fine blocks go by words: where there are any, and the list of what siblings picked has room.
template <class Q>
bool go_by_words(const LlsaOperands& args) {
  const LlsaPlan& plan = args.plan;
  return !args.words.empty() && plan.count[1] <= PickedTogether::kMostBlocks &&
         Q::kQueries / plan.block * plan.width[0] <= PickedTogether::kMost;
}

}  // namespace llsa::kernels::cuda

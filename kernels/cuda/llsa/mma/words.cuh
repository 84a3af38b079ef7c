// Fine blocks by bit words. The query blocks of a thread block are siblings, so the words of their parent,
// R_1 (index/words.cu), say what each of them picked. From these words the warps make a list of key blocks,
// ascending, each with a bit for every query block that picked it. Each key block is copied once for all
// warps, and used by the warps whose bit is set.
//
// The list is processed in rounds of as many entries as there are query blocks. There are three stages for
// the keys and values of a round; the third lies where the coarse tiles were. No barrier holds the warps
// together: a warp may be almost two rounds ahead of another. On entering round t a warp
//
//     arrives at `full` of t + 1          its own copy for that round has come; the other warps' may not have
//     copies its entry of round t + 2     after waiting until all warps have arrived at `empty` of that
//                                           place, so they are done with round t - 1; the copying warp
//                                           arrives on behalf of the warps that skip the new entry
//     waits for `full` of t               then uses its picks, and arrives at `empty` of each
//
// Each wait is for something earlier in this order, so no warp waits for ever. A warp arrives for round t + 3
// only after it has waited for t, so the parity of a phase is enough to tell the rounds apart.
//
// Compared with rows, this saves copies: 4 KB of K and V at D = 64 for every pick of a key block that a
// sibling picked, too. Of the blocks that 8 siblings pick at B = 16, K = 8, N = 65,536, 51 % are distinct on
// the benchmark's structured inputs and 80 % on normal ones (counted on the CPU). It costs waiting, since the
// warps of a round have different numbers of picks. Which of the two ways is faster on a GPU has not been
// measured; `llsa bench attention` has a variant for each.
#pragma once

#include "walk.cuh"

namespace llsa::kernels::cuda {

/// The key blocks that the query blocks of a thread block picked, each once, ascending.
struct PickedTogether {
  static constexpr int kMost = 512;
  static constexpr std::int64_t kMostBlocks = 1 << 24;  // key blocks that an entry can name

  KeyRows keys;
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

  // A warp takes a run of positions. It counts its entries first, then writes them behind those of the warps
  // before it.
  const int run = (positions + 32 * Q::kWarps - 1) / (32 * Q::kWarps) * 32;
  const int first = warp * run, end = min(first + run, positions);
  const auto entry_at = [&](int p) -> std::uint32_t {  // 0: no query block picked it
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
  if (thread == 0) list.keys = KeyRows(set, 0, head);
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

/// Fine blocks by words.
template <class Q>
struct FineByWords {
  static constexpr bool kCausal = false;
  static constexpr int kStages = 3;
  static constexpr unsigned kStage = Q::kWarps * Q::kPiece;  // bytes
  static_assert(Q::kRings == kStage, "the third stage lies where the coarse tiles were");

  struct Shared {
    PickedTogether list;
    std::uint64_t full[kStages];  // mbarriers
    std::uint64_t empty[kStages * Q::kWarps];
  };

  /// The position of a warp, which is one of the B / 16 warps of its query block.
  struct Part {
    int shift, warp, lane;

    __device__ __forceinline__ Part(int log2_block, int thread)
        : shift(log2_block), warp(thread / 32), lane(thread % 32) {}
    __device__ __forceinline__ int warps() const { return 1 << (shift - 4); }
    __device__ __forceinline__ int query_block() const { return warp >> (shift - 4); }
    /// The tile of entry i of a round, and the mbarrier at which its users arrive.
    __device__ __forceinline__ unsigned tile(unsigned memory, int round, int i) const {
      return memory + static_cast<unsigned>(round + 1) % kStages * kStage +
             static_cast<unsigned>(i << (shift - 4)) * Q::kPiece;
    }
    __device__ __forceinline__ unsigned empty(const Shared& shared, int round, int i) const {
      return simt::smem_address(shared.empty + static_cast<unsigned>(round) % kStages * Q::kWarps + i);
    }
  };

  static __device__ __forceinline__ unsigned full(const Shared& shared, int round) {
    return simt::smem_address(shared.full + static_cast<unsigned>(round) % kStages);
  }
  /// The parity of the phase of an mbarrier that belongs to a round.
  static __device__ __forceinline__ unsigned parity(int round) {
    return static_cast<unsigned>(round) / kStages % 2;
  }

  /// Copies this warp's part of a round, whose first entry is `first`, and arrives on behalf of the warps
  /// that skip its entry.
  static __device__ __forceinline__ void copy(const Part& part, int round, int first, int tokens,
                                              unsigned memory, const Shared& shared) {
    const int i = part.query_block();
    if (first + i >= shared.list.length) return;
    const std::uint32_t entry = shared.list.entry[first + i];
    const unsigned empty = part.empty(shared, round, i);
    if (round >= kStages) ptx::mbarrier_wait(empty, parity(round - kStages));
    const int token = static_cast<int>(entry >> 8 << part.shift);
    const int thread = (part.warp & (part.warps() - 1)) * 32 + part.lane;
    copy_key_block<Q::kD>(shared.list.keys, token, tokens - token, part.shift, part.tile(memory, round, i),
                          thread);
    ptx::cp_async_commit();
    if (thread < Q::kWarps && (entry >> (thread >> (part.shift - 4)) & 1) == 0) ptx::mbarrier_arrive(empty);
  }

  /// The list, then the copies of two rounds.
  static __device__ __forceinline__ void begin(const AttendedSet<Element>& set, int shift, int head,
                                               const WarpQueries<Q>& mine, unsigned memory, KeyList* lists,
                                               Shared& shared) {
    const int thread = static_cast<int>(threadIdx.x);
    const Part part(shift, thread);
    if (makes_shared_list(set, thread)) lists[thread] = key_list(set, thread, head, mine.block_first, shift);
    if (thread < kStages) ptx::mbarrier_init(full(shared, thread), Q::kWarps);
    if (thread < kStages * Q::kWarps)
      ptx::mbarrier_init(simt::smem_address(shared.empty + thread), Q::kWarps);
    list_picked_together<Q>(set, shift, head, mine.block_first, shared.list);
    for (int round = 0; round < kStages - 1; ++round)
      copy(part, round, round * (Q::kWarps >> (shift - 4)), static_cast<int>(set.queries), memory, shared);
  }

  template <class Step>
  static __device__ __forceinline__ void walk(const AttendedSet<Element>& set, int shift,
                                              const WarpQueries<Q>& mine, unsigned memory, Shared& shared,
                                              Step& step) {
    const int tokens = static_cast<int>(set.queries), query_blocks = Q::kWarps >> (shift - 4);
    __syncthreads();  // no warp uses the coarse tiles any longer
    for (int round = 0, first = 0; first < shared.list.length; ++round, first += query_blocks) {
      // Reading the thread's number again keeps values that depend on it out of the registers during the
      // walk.
      const Part part(shift, ptx::thread_number());
      ptx::cp_async_wait<0>();
      __syncwarp();
      if (part.lane == 0) {
        if (round == 0) ptx::mbarrier_arrive(full(shared, 0));
        if (first + query_blocks < shared.list.length) ptx::mbarrier_arrive(full(shared, round + 1));
      }
      copy(part, round + 2, first + 2 * query_blocks, tokens, memory, shared);
      ptx::mbarrier_wait(full(shared, round), parity(round));
      const bool picked = part.lane < query_blocks && first + part.lane < shared.list.length &&
                          (shared.list.entry[first + part.lane] >> part.query_block() & 1) != 0;
      for (unsigned left = __ballot_sync(kAllLanes, picked); left != 0; left &= left - 1) {
        const int i = __ffs(static_cast<int>(left)) - 1;
        if (mine.rows > 0)
          step_through_block<Q>(part.tile(memory, round, i), 1 << (shift - 4), step, [&] {
            return tokens - static_cast<int>(shared.list.entry[first + i] >> 8 << shift);
          });
        __syncwarp();
        if (ptx::thread_number() % 32 == 0) ptx::mbarrier_arrive(part.empty(shared, round, i));
      }
    }
  }
};

/// Whether fine blocks go by words: if there are words, and the list has room for all picks of the siblings.
template <class Q>
bool go_by_words(const LlsaState& args) {
  const LlsaPlan& plan = args.plan;
  return !args.words.empty() && plan.count[1] <= PickedTogether::kMostBlocks &&
         Q::kQueries / plan.block * plan.width[0] <= PickedTogether::kMost;
}

}  // namespace llsa::kernels::cuda

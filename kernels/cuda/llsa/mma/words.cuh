// Fine blocks by bit words. The query blocks of a thread block are siblings, so the words of their parent,
// R_1 (index/words.cu), say what each of them picked. From these words the warps make a list of key blocks,
// ascending, each with a bit for every query block that picked it. Each key block is copied once for all
// warps, and used by the warps whose bit is set.
//
// The list is processed in rounds of as many entries as there are query blocks. There are three stages for
// the keys and values of a round, or two where a multiprocessor has memory for more blocks then; one of them
// lies where the coarse tiles were. No barrier holds the warps together: with S stages a warp may be almost
// S - 1 rounds ahead of another. On entering round t a warp
//
//     arrives at `full` of t + S - 2      its own copy for that round has come; the other warps' may not have
//     copies its entry of t + S - 1       after waiting until all warps have arrived at `empty` of that
//                                           place, so they are done with round t - 1; the copying warp
//                                           arrives on behalf of the warps that skip the new entry
//     waits for `full` of t               then uses its picks, and arrives at `empty` of each
//
// Each wait is for something earlier in this order, so no warp waits for ever. A warp arrives for round t + S
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

/// Fine blocks by words, in a ring of two or three stages.
template <class QBlock, int stages>
struct FineByWords {
  using Q = QBlock;
  static constexpr bool kCausal = false;
  static constexpr int kStages = stages, kAhead = stages - 1;  // rounds that copies run ahead
  static constexpr unsigned kStage = Q::kWarps * Q::kPiece;    // bytes
  static_assert(Q::kRings == kStage, "a stage lies where the coarse tiles were");
  /// Of dynamic shared memory.
  static constexpr unsigned bytes(bool) { return kStages * kStage; }

  struct Shared {
    PickedTogether list;
    std::uint64_t full[kStages];  // mbarriers
    std::uint64_t empty[kStages * Q::kWarps];
  };

  /// The stage of a round, in memory and among the mbarriers, and the parity of these in that round. Stage 0 is where
  /// the coarse tiles were, so round 0 takes stage 1.
  struct Turn {
    int stage = 1;
    unsigned parity = 0;

    __device__ __forceinline__ Turn next() const {
      if (stage == kStages - 1) return {0, parity};
      return {stage + 1, stage == 0 ? parity ^ 1 : parity};
    }
    __device__ __forceinline__ Turn before() const {
      if (stage == 0) return {kStages - 1, parity};
      return {stage - 1, stage == 1 ? parity ^ 1 : parity};
    }
  };

  static __device__ __forceinline__ unsigned full(const Shared& shared, int stage) {
    return simt::smem_address(shared.full + stage);
  }
  /// The mbarrier at which the users of entry i of a round arrive.
  static __device__ __forceinline__ unsigned empty(const Shared& shared, int stage, int i) {
    return simt::smem_address(shared.empty + stage * Q::kWarps + i);
  }
  /// Where the keys of entry i of a round lie.
  static __device__ __forceinline__ unsigned tile(unsigned memory, int stage, int i, int shift) {
    return memory + static_cast<unsigned>(stage) * kStage +
           static_cast<unsigned>(i << (shift - 4)) * Q::kPiece;
  }

  /// A warp, one of the B / 16 warps of its query block, and what it copies.
  struct Part {
    int shift, warp, lane;
    KeyBlockCopy<Q> copy_block;

    __device__ __forceinline__ Part(int log2_block, const KeyRows& keys, unsigned thread)
        : shift(log2_block),
          warp(static_cast<int>(thread / 32)),
          lane(static_cast<int>(thread % 32)),
          copy_block(keys, thread % (2u << log2_block)) {}
    __device__ __forceinline__ int query_block() const { return warp >> (shift - 4); }

    /// Copies this query block's entry of the round that begins with entry `first` into a stage, once free() has waited
    /// for it, and arrives on behalf of the warps that skip the entry.
    template <class Free>
    __device__ __forceinline__ void copy(int stage, int first, int tokens, unsigned memory,
                                         const Shared& shared, Free free) const {
      const int i = query_block();
      if (first + i >= shared.list.length) return;
      const std::uint32_t entry = shared.list.entry[first + i];
      const unsigned users = empty(shared, stage, i);
      free(users);
      const int token = static_cast<int>(entry >> 8 << shift);
      copy_block(token, tokens - token, shift, tile(memory, stage, i, shift));
      ptx::cp_async_commit();
      const unsigned user = copy_block.thread;
      if (user < Q::kWarps && (entry >> (user >> (shift - 4)) & 1) == 0) ptx::mbarrier_arrive(users);
    }
  };

  /// The list, then the copies of the first rounds.
  static __device__ __forceinline__ void begin(const AttendedSet<Element>& set, int shift, int head,
                                               const WarpQueries<Q>& mine, unsigned memory, KeyList* lists,
                                               Shared& shared) {
    const int thread = static_cast<int>(threadIdx.x);
    if (makes_shared_list(set, thread)) lists[thread] = key_list(set, thread, head, mine.block_first, shift);
    if (thread < kStages) ptx::mbarrier_init(full(shared, thread), Q::kWarps);
    if (thread < kStages * Q::kWarps) ptx::mbarrier_init(empty(shared, 0, thread), Q::kWarps);
    list_picked_together<Q>(set, shift, head, mine.block_first, shared.list);
    const Part part(shift, shared.list.keys, threadIdx.x);
    for (int round = 0; round < kAhead; ++round)
      part.copy(round + 1, round * (Q::kWarps >> (shift - 4)), static_cast<int>(set.queries), memory, shared,
                [](unsigned) {});
  }

  template <class Step>
  static __device__ __forceinline__ void walk(const AttendedSet<Element>& set, int shift,
                                              const WarpQueries<Q>& mine, unsigned memory, Shared& shared,
                                              Step& step) {
    const int tokens = static_cast<int>(set.queries), query_blocks = Q::kWarps >> (shift - 4);
    __syncthreads();  // no warp uses the coarse tiles any longer
    // Reading the thread's number again keeps what depends on it out of the registers until here or, where there
    // are too few of them, out of those of the loop.
    const auto again = [&] {
      return Part(shift, shared.list.keys, static_cast<unsigned>(ptx::thread_number()));
    };
    const Part kept = again();
    const int length = shared.list.length;
    Turn turn;
    for (int first = 0; first < length; first += query_blocks, turn = turn.next()) {
      const Turn before = turn.before();
      const Part part = Q::kUsual ? kept : again();
      ptx::cp_async_wait<0>();
      __syncwarp();
      if (part.lane == 0) {
        if (kAhead == 1 || first == 0) ptx::mbarrier_arrive(full(shared, turn.stage));
        if (kAhead == 2 && first + query_blocks < length)
          ptx::mbarrier_arrive(full(shared, turn.next().stage));
      }
      part.copy(before.stage, first + kAhead * query_blocks, tokens, memory, shared, [&](unsigned users) {
        if (first > 0) ptx::mbarrier_wait(users, before.parity);
      });
      ptx::mbarrier_wait(full(shared, turn.stage), turn.parity);
      const bool picked = part.lane < query_blocks && first + part.lane < length &&
                          (shared.list.entry[first + part.lane] >> part.query_block() & 1) != 0;
      for (unsigned left = __ballot_sync(kAllLanes, picked); left != 0; left &= left - 1) {
        const int i = __ffs(static_cast<int>(left)) - 1;
        if (mine.rows > 0)
          step_through_block<Q>(tile(memory, turn.stage, i, shift), 1 << (shift - 4), step, [&] {
            return tokens - static_cast<int>(shared.list.entry[first + i] >> 8 << shift);
          });
        __syncwarp();
        if (part.lane == 0) ptx::mbarrier_arrive(empty(shared, turn.stage, i));
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

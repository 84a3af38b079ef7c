// Fine blocks by rows of picks: each query block has a ring of two tiles of B keys, and only its own B / 16
// warps wait for each other.
#pragma once

#include "walk.cuh"

namespace llsa::kernels::cuda {

/// Fine blocks by rows of picks. `causal`: full attention, which has no fine blocks, up to the diagonal.
template <class QBlock, bool causal = false>
struct FineByRows {
  using Q = QBlock;
  static constexpr bool kCausal = causal;
  /// Of dynamic shared memory: the coarse tiles, then the rings.
  static constexpr unsigned bytes(bool fine) { return Q::kRings + (fine ? Q::kWarps * 2 * Q::kPiece : 0); }

  struct Shared {
    KeyList list[Q::kWarps];  // at the first warp of a query block
  };

  /// The position of a thread among the warps of its query block, with their list and their two tiles.
  struct Ring {
    int warps, first_warp, thread;
    KeyList& list;
    unsigned tiles;

    __device__ __forceinline__ Ring(int shift, int thread_of_block, Shared& shared, unsigned memory)
        : warps(shift < 4 ? 1 : 1 << (shift - 4)),
          first_warp(thread_of_block / 32 & -warps),
          thread(thread_of_block - first_warp * 32),
          list(shared.list[first_warp]),
          tiles(memory + Q::kRings + static_cast<unsigned>(first_warp) * 2 * Q::kPiece) {}

    __device__ __forceinline__ unsigned tile(int stage) const {
      return tiles + static_cast<unsigned>(stage * warps) * Q::kPiece;
    }
    __device__ __forceinline__ void copy(int p, int stage, int shift) const {
      const KeyBlockCopy<Q> copy_block(list.keys, static_cast<unsigned>(thread));
      copy_block(list.token(p, shift), list.length - p, shift, tile(stage));
    }
  };

  /// Makes the lists, then starts the first copies, with a barrier in between.
  static __device__ __forceinline__ void begin(const AttendedSet<Element>& set, int shift, int head,
                                               const WarpQueries<Q>& mine, unsigned memory, KeyList* lists,
                                               Shared& shared) {
    const Ring ring(shift, static_cast<int>(threadIdx.x), shared, memory);
    const int query = mine.block_first + ring.first_warp * 16;
    // One lane makes each list, of all levels, so that all of them wait for their picks at the same time.
    const int thread = static_cast<int>(threadIdx.x);
    const bool makes_shared = makes_shared_list(set, thread), makes_fine = ring.thread == 0;
    if (makes_fine) ring.list.length = 0;
    if (makes_shared || (makes_fine && set.levels > 0 && query < set.queries)) {
      KeyList& list = makes_shared ? lists[thread] : ring.list;
      list = key_list(set, makes_shared ? thread : 0, head, query, shift);
      if constexpr (causal) list.length = min(list.length, seen_by_block<Q>(set, mine.block_first));
    }
    __syncthreads();
    if (ring.list.length > 0) ring.copy(0, 0, shift);
  }

  template <class Step>
  static __device__ __forceinline__ void walk(const AttendedSet<Element>&, int shift,
                                              const WarpQueries<Q>& mine, unsigned memory, Shared& shared,
                                              Step& step) {
    // Reading the thread's number again keeps values that depend on it out of the registers during the walk.
    const Ring ring(shift, ptx::thread_number(), shared, memory);
    const int length = ring.list.length, block = 16 * ring.warps;
    for (int p = 0, stage = 0; p < length; p += block, stage ^= 1) {
      ptx::cp_async_wait<0>();
      if (ring.warps == 1)
        __syncwarp();
      else
        ptx::named_barrier(1 + ring.first_warp, 32 * ring.warps);
      if (p + block < length) ring.copy(p + block, stage ^ 1, shift);
      ptx::cp_async_commit();
      if (mine.rows > 0)
        step_through_block<Q>(ring.tile(stage), ring.warps, step, [&] { return length - p; });
    }
  }
};

}  // namespace llsa::kernels::cuda

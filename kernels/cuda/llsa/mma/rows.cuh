// Fine blocks by rows of picks: a ring of two tiles of B keys for each query block, whose B / 16 warps wait
// for each other only.
#pragma once

#include "walk.cuh"

namespace llsa::kernels::cuda {

/// Fine blocks by rows of picks.
template <class Q>
struct FineByRows {
  struct Shared {
    KeyList list[Q::kWarps];  // at the first warp of a query block
  };

  /// The place of a thread among the warps of its query block, with their list and their two tiles.
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
    __device__ __forceinline__ void copy(int p, int stage) const {
      copy_key_block<Q::kD>(list.keys, list.token(p), list.length - p, list.shift, tile(stage), thread);
    }
  };

  /// Lists, then the first copies; there is a barrier between.
  static __device__ __forceinline__ void begin(const AttendedSet<Element>& set, int shift, int head,
                                               const WarpQueries<Q>& mine, unsigned memory, KeyList* lists,
                                               Shared& shared) {
    const Ring ring(shift, static_cast<int>(threadIdx.x), shared, memory);
    const int query = mine.block_first + ring.first_warp * 16;
    // A lane for each list, of all levels, so that they wait for their picks together.
    const int thread = static_cast<int>(threadIdx.x);
    const bool makes_shared = makes_shared_list(set, thread), makes_fine = ring.thread == 0;
    if (makes_fine) ring.list.length = 0;
    if (makes_shared || (makes_fine && set.levels > 0 && query < set.queries)) {
      KeyList& list = makes_shared ? lists[thread] : ring.list;
      list = key_list(set, makes_shared ? thread : 0, head, query, shift);
    }
    __syncthreads();
    if (ring.list.length > 0) ring.copy(0, 0);
  }

  template <class Step>
  static __device__ __forceinline__ void walk(const AttendedSet<Element>&, int shift,
                                              const WarpQueries<Q>& mine, unsigned memory, Shared& shared,
                                              Step& step) {
    // The thread's number is read anew, lest what follows from it be held in registers all the while.
    const Ring ring(shift, ptx::thread_number(), shared, memory);
    const int length = ring.list.length, block = 16 * ring.warps;
    for (int p = 0, stage = 0; p < length; p += block, stage ^= 1) {
      ptx::cp_async_wait<0>();
      if (ring.warps == 1)
        __syncwarp();
      else
        ptx::named_barrier(1 + ring.first_warp, 32 * ring.warps);
      if (p + block < length) ring.copy(p + block, stage ^ 1);
      ptx::cp_async_commit();
      if (mine.rows > 0)
        step_through_block<Q>(ring.tile(stage), ring.warps, step, [&] { return length - p; });
    }
  }
};

}  // namespace llsa::kernels::cuda

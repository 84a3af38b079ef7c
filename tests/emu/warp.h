// Intrinsics that the lanes of a warp or the threads of a block execute together.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "runtime.h"

namespace llsa::emu {

struct Shuffle {
  std::uint64_t value;
  unsigned source;
  std::uint64_t result;
};
/// result = value of lane `source`; all bits set if that lane takes no part (undefined on the device).
void compute_shuffle(void* const* slots, std::uint32_t lanes);

struct Vote {
  bool predicate;
  std::uint32_t ballot;
};
void compute_vote(void* const* slots, std::uint32_t lanes);

struct Reduction {
  std::int64_t value, result;
};
void compute_sum(void* const* slots, std::uint32_t lanes);
void compute_min(void* const* slots, std::uint32_t lanes);
void compute_max(void* const* slots, std::uint32_t lanes);
void compute_and(void* const* slots, std::uint32_t lanes);
void compute_or(void* const* slots, std::uint32_t lanes);
void compute_xor(void* const* slots, std::uint32_t lanes);

/// The types that CUDA can shuffle.
template <class T>
concept Shuffled =
    (std::is_arithmetic_v<T> && sizeof(T) >= 4 && sizeof(T) <= 8) || std::is_same_v<T, __half> ||
    std::is_same_v<T, __half2> || std::is_same_v<T, __nv_bfloat16> || std::is_same_v<T, __nv_bfloat162>;

template <Shuffled T>
T shuffle(unsigned mask, T value, int source, const char* what, Place place) {
  if (source < 0 || source >= 32)
    fail("%s at %s:%d: source lane %d; is the width a power of two up to 32?", what, place.file, place.line,
         source);
  Shuffle s{0, static_cast<unsigned>(source), 0};
  std::memcpy(&s.value, &value, sizeof value);
  warp_collective(mask, compute_shuffle, &s, what, place);
  T result;
  std::memcpy(static_cast<void*>(&result), &s.result, sizeof result);
  return result;
}

inline std::uint32_t vote(unsigned mask, bool predicate, const char* what, Place place) {
  Vote v{predicate, 0};
  warp_collective(mask, compute_vote, &v, what, place);
  return v.ballot;
}

template <class T>
T reduce(unsigned mask, T value, Collective compute, const char* what, Place place) {
  Reduction r{static_cast<std::int64_t>(value), 0};
  warp_collective(mask, compute, &r, what, place);
  return static_cast<T>(r.result);
}

}  // namespace llsa::emu

// ---- barriers -----------------------------------------------------------------------------------------

inline void __syncthreads(llsa::emu::Place place = llsa::emu::Place::here()) {
  llsa::emu::block_barrier(0, 0, false, "__syncthreads", place);
}
inline int __syncthreads_count(int predicate, llsa::emu::Place place = llsa::emu::Place::here()) {
  return llsa::emu::block_barrier(0, 0, predicate != 0, "__syncthreads_count", place);
}
inline int __syncthreads_or(int predicate, llsa::emu::Place place = llsa::emu::Place::here()) {
  return llsa::emu::block_barrier(0, 0, predicate != 0, "__syncthreads_or", place) != 0;
}
inline int __syncthreads_and(int predicate, llsa::emu::Place place = llsa::emu::Place::here()) {
  return llsa::emu::block_barrier(0, 0, predicate == 0, "__syncthreads_and", place) == 0;
}
inline void __syncwarp(unsigned mask = ~0u, llsa::emu::Place place = llsa::emu::Place::here()) {
  llsa::emu::warp_barrier(mask, place);
}

// ---- shuffles: `width` splits the warp; a source outside the part is the lane itself ------------------

template <llsa::emu::Shuffled T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              llsa::emu::Place place = llsa::emu::Place::here()) {
  const int lane = static_cast<int>(llsa::emu::lane_id());
  return llsa::emu::shuffle(mask, value, (lane & ~(width - 1)) | (source & (width - 1)), "__shfl_sync",
                            place);
}
template <llsa::emu::Shuffled T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32,
                  llsa::emu::Place place = llsa::emu::Place::here()) {
  const int lane = static_cast<int>(llsa::emu::lane_id()), source = lane ^ bits;
  const bool inside = source < (lane & ~(width - 1)) + width;
  return llsa::emu::shuffle(mask, value, inside ? source : lane, "__shfl_xor_sync", place);
}
template <llsa::emu::Shuffled T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 llsa::emu::Place place = llsa::emu::Place::here()) {
  const int lane = static_cast<int>(llsa::emu::lane_id()), source = lane - static_cast<int>(delta);
  const bool inside = source >= (lane & ~(width - 1));
  return llsa::emu::shuffle(mask, value, inside ? source : lane, "__shfl_up_sync", place);
}
template <llsa::emu::Shuffled T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   llsa::emu::Place place = llsa::emu::Place::here()) {
  const int lane = static_cast<int>(llsa::emu::lane_id()), source = lane + static_cast<int>(delta);
  const bool inside = source < (lane & ~(width - 1)) + width;
  return llsa::emu::shuffle(mask, value, inside ? source : lane, "__shfl_down_sync", place);
}

// ---- votes and integer reductions ---------------------------------------------------------------------

inline unsigned __ballot_sync(unsigned mask, int predicate,
                              llsa::emu::Place place = llsa::emu::Place::here()) {
  return llsa::emu::vote(mask, predicate != 0, "__ballot_sync", place);
}
inline int __any_sync(unsigned mask, int predicate, llsa::emu::Place place = llsa::emu::Place::here()) {
  return llsa::emu::vote(mask, predicate != 0, "__any_sync", place) != 0;
}
inline int __all_sync(unsigned mask, int predicate, llsa::emu::Place place = llsa::emu::Place::here()) {
  return llsa::emu::vote(mask, predicate == 0, "__all_sync", place) == 0;
}

#define LLSA_EMU_REDUCE(type, name, compute)                                                       \
  inline type name(unsigned mask, type value, llsa::emu::Place place = llsa::emu::Place::here()) { \
    return llsa::emu::reduce(mask, value, llsa::emu::compute, #name, place);                       \
  }
LLSA_EMU_REDUCE(unsigned, __reduce_add_sync, compute_sum)
LLSA_EMU_REDUCE(unsigned, __reduce_min_sync, compute_min)
LLSA_EMU_REDUCE(unsigned, __reduce_max_sync, compute_max)
LLSA_EMU_REDUCE(int, __reduce_add_sync, compute_sum)
LLSA_EMU_REDUCE(int, __reduce_min_sync, compute_min)
LLSA_EMU_REDUCE(int, __reduce_max_sync, compute_max)
LLSA_EMU_REDUCE(unsigned, __reduce_and_sync, compute_and)
LLSA_EMU_REDUCE(unsigned, __reduce_or_sync, compute_or)
LLSA_EMU_REDUCE(unsigned, __reduce_xor_sync, compute_xor)
#undef LLSA_EMU_REDUCE

template <class T = void>
unsigned __activemask() {
  static_assert(!std::is_void_v<T>, "which lanes run together is not defined: pass masks explicitly");
  return 0;
}

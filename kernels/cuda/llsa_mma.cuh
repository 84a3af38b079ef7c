// What the tensor-core attention kernels share: bf16 tiles in shared memory, fragments, and the walk over the
// keys that sibling query blocks attend to.
//
// mma.m16n8k16 throughout. With lane = 4 g + t, a lane holds of a 16 x 8 result the rows g and g + 8, columns
// 2t and 2t + 1; two neighbouring results, rounded to bf16, are the left operand of a product over those 16
// columns, so that probabilities never leave the registers. Tiles are rows of D elements in 16-byte chunks,
// permuted so that the eight rows of an 8x8 matrix lie in different banks.
#pragma once

#include "llsa_operands.cuh"
#include "simt/ptx.h"

namespace llsa::kernels::cuda {

using Element = __nv_bfloat16;

/// Byte offset of a chunk of 8 elements in a tile.
template <int D>
__device__ __forceinline__ unsigned tile_offset(int row, int chunk) {
  const int key = D == 32 ? row / 2 % 4 : row % 8;
  return static_cast<unsigned>(row * 2 * D + ((chunk ^ key) << 4));
}

/// The lower and the upper half of a register.
__device__ __forceinline__ std::uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return reinterpret_cast<const std::uint32_t&>(pair);
}

/// 16 rows of D elements as a left operand, straight from global memory; rows beyond `rows` are zero.
template <int D>
__device__ __forceinline__ void load_left(std::uint32_t (&f)[D / 16][4], const Element* from,
                                          std::int64_t stride, int rows, int lane) {
  const int row = lane / 4, column = lane % 4 * 2;
  SIMT_UNROLL
  for (int k = 0; k < D / 16; ++k) {
    SIMT_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int r = row + i % 2 * 8;
      f[k][i] = r < rows
                    ? *reinterpret_cast<const std::uint32_t*>(from + r * stride + k * 16 + i / 2 * 8 + column)
                    : 0;
    }
  }
}

/// For rows 16 u .. 16 u + 15 of a tile: a[.] = left . row, as two results of 8 columns each.
template <int D>
__device__ __forceinline__ void left_times_rows(float (&a)[2][4], const std::uint32_t (&left)[D / 16][4],
                                                unsigned tile, int u, int lane) {
  SIMT_UNROLL
  for (int i = 0; i < 4; ++i) a[0][i] = a[1][i] = 0;
  const int row = u * 16 + lane % 8 + lane / 16 * 8, chunk = lane / 8 % 2;
  SIMT_UNROLL
  for (int k = 0; k < D / 16; ++k) {
    std::uint32_t r[4];
    ptx::ldmatrix_x4(r, tile + tile_offset<D>(row, 2 * k + chunk));
    ptx::mma_m16n8k16_bf16(a[0], left[k], r[0], r[1]);
    ptx::mma_m16n8k16_bf16(a[1], left[k], r[2], r[3]);
  }
}

/// sum += p x for x the rows 16 u .. 16 u + 15 of a tile.
template <int D>
__device__ __forceinline__ void add_left_times_tile(float (&sum)[D / 8][4], const std::uint32_t (&p)[4],
                                                    unsigned tile, int u, int lane) {
  const int row = u * 16 + lane % 16, chunk = lane / 16;
  SIMT_UNROLL
  for (int c = 0; c < D / 8; c += 2) {
    std::uint32_t r[4];
    ptx::ldmatrix_x4_trans(r, tile + tile_offset<D>(row, c + chunk));
    ptx::mma_m16n8k16_bf16(sum[c], p, r[0], r[1]);
    ptx::mma_m16n8k16_bf16(sum[c + 1], p, r[2], r[3]);
  }
}

/// Sizes of a block of a query-major kernel. Shared memory: two tiles of keys and values that all warps use,
/// then per warp two tiles of 16 of its own.
template <int head_dimension, int warps, int per_processor>
struct QueryBlock {
  static constexpr int kD = head_dimension;
  static constexpr int kWarps = warps;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kQueries = 16 * kWarps;
  static constexpr int kPerProcessor = per_processor;
  static constexpr int kKeys = kD == 128 ? 32 : 64;  // of a shared tile
  static constexpr unsigned kTile = kKeys * kD * 2;
  static constexpr unsigned kStage = 2 * kTile;
  static constexpr unsigned kFineTile = 16 * kD * 2;
  static constexpr unsigned kFineStage = 2 * kFineTile;
  static constexpr unsigned kRings = 2 * kStage;
  static constexpr unsigned bytes(bool fine) { return kRings + (fine ? kWarps * 2 * kFineStage : 0); }
};

/// Keys in the order in which they are attended: dense, or blocks by a row of picks. Only the last may be a
/// token that covers less than the others.
struct KeyList {
  const Element* k;
  const Element* v;
  int k_stride, v_stride;
  const std::int32_t* picks;  // null: dense
  int blocks;                 // how many a pick can name
  int shift;                  // log2 B
  int length;
  float bias, last_bias;

  /// The token at a position; positions from a multiple of 16 on to the next are neighbours.
  __device__ __forceinline__ int token(int p) const {
    if (!picks) return p;
    const std::int32_t j = picks[p >> shift];
    return ((j < blocks ? j : 0) << shift) + (p & ((1 << shift) - 1));
  }
};

/// Picks in use of a row of `width`: they come first.
__device__ __forceinline__ int picks_in_use(const std::int32_t* picks, int width, std::int64_t blocks) {
  int low = 0, high = width;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (picks[middle] >= 0 && picks[middle] < blocks)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

/// What the queries of one node attend to at a level.
__device__ inline KeyList key_list(const AttendedSet<Element>& set, int l, int head, int query, int shift) {
  const std::int64_t n = set.level[l].count;
  KeyList list;
  list.k = set.k_head(l, head);
  list.v = set.v_head(l, head);
  list.k_stride = static_cast<int>(set.k_stride(l));
  list.v_stride = static_cast<int>(set.v_stride(l));
  list.shift = shift;
  list.picks = nullptr;
  list.blocks = 0;
  list.length = static_cast<int>(n);
  list.bias = set.template bias<float>(l, 0);
  list.last_bias = set.template bias<float>(l, n - 1);
  if (l == set.levels) return list;
  const auto& above = set.level[l + 1];
  const int bits = shift * (l + 1);
  const int node = bits < 31 ? query >> bits : 0;
  list.picks = above.picks + (head * above.count + node) * above.width;
  list.blocks = static_cast<int>(above.count);
  const int used = picks_in_use(list.picks, above.width, list.blocks);
  list.length = used << shift;
  if (used > 0 && list.picks[used - 1] == list.blocks - 1)
    list.length -= static_cast<int>((static_cast<std::int64_t>(list.blocks) << shift) - n);
  else
    list.last_bias = list.bias;
  return list;
}

/// What a tile holds besides keys and values: with `valid` positions left in its list, counted from its
/// beginning.
struct TileKeys {
  int valid;
  float bias, last_bias;

  /// Whether the first n positions are not all alike.
  __device__ __forceinline__ bool ends_within(int n) const {
    return valid < n || (valid == n && last_bias != bias);
  }
};

/// Copies `rows` rows of keys and values, positions p on of a list, into a tile; by `threads` threads.
template <int D, int rows, int threads, bool through_l1>
__device__ __forceinline__ void copy_tile(const KeyList& list, int p, unsigned k_tile, unsigned v_tile,
                                          int thread) {
  constexpr int kChunks = D / 8;
  for (int at = thread; at < rows * kChunks; at += threads) {
    const int row = at / kChunks, chunk = at % kChunks;
    const bool there = p + row < list.length;
    const std::int64_t token = there ? list.token(p + row) : 0;
    const unsigned offset = tile_offset<D>(row, chunk), bytes = there ? 16 : 0;
    if constexpr (through_l1) {
      ptx::cp_async16_ca(k_tile + offset, list.k + (token * list.k_stride + chunk * 8), bytes);
      ptx::cp_async16_ca(v_tile + offset, list.v + (token * list.v_stride + chunk * 8), bytes);
    } else {
      ptx::cp_async16(k_tile + offset, list.k + (token * list.k_stride + chunk * 8), bytes);
      ptx::cp_async16(v_tile + offset, list.v + (token * list.v_stride + chunk * 8), bytes);
    }
  }
}

/// Walks over all keys that the block's queries attend to, coarse levels first: their tiles are shared by the
/// block's warps (sibling query blocks: 128 and 64 divide B^2), copied while the one before is used. Then
/// every warp goes through the fine blocks of its own 16 queries in the same way. Calls
/// step(integral_constant<16-key pieces>, k tile, v tile, keys) for every tile, in a warp with `rows` > 0;
/// keys() gives the TileKeys, which are to be read no sooner than needed.
template <class Q, class Step>
__device__ __forceinline__ void for_attended_tiles(const AttendedSet<Element>& set, int shift, int head,
                                                   int block_query, int rows, unsigned char* memory,
                                                   Step step) {
  constexpr int D = Q::kD;
  SIMT_SHARED(lists, KeyList[kMaxLevels + 1]);
  SIMT_SHARED(fine_lists, KeyList[Q::kWarps]);
  SIMT_SHARED(tile_keys, TileKeys[2]);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const unsigned base = simt::smem_address(memory);
  const unsigned ring = base + Q::kRings + static_cast<unsigned>(warp) * 2 * Q::kFineStage;

  // The fine list of this warp, if level 0 is not the coarsest. Lists are kept out of the registers.
  KeyList& fine = fine_lists[warp];
  if (lane == 0) {
    if (set.levels > 0 && rows > 0)
      fine = key_list(set, 0, head, block_query + warp * 16, shift);
    else
      fine.length = 0;
  }
  __syncwarp();
  const auto copy_fine = [&](int p, unsigned stage) {
    copy_tile<D, 16, 32, true>(fine, p, stage, stage + Q::kFineTile, lane);
  };
  if (fine.length > 0) copy_fine(0, ring);
  ptx::cp_async_commit();

  // Shared lists, level l at [l]; level 0 only in full attention.
  const int lowest = set.levels > 0 ? 1 : 0;
  if (thread >= lowest && thread <= set.enriched)
    lists[thread] = key_list(set, thread, head, block_query, shift);
  __syncthreads();
  int level = set.enriched, at = 0;  // the next tile to copy
  const auto copy_next = [&](int stage) {
    const KeyList& list = lists[level];
    const unsigned tile = base + static_cast<unsigned>(stage) * Q::kStage;
    copy_tile<D, Q::kKeys, Q::kThreads, false>(list, at, tile, tile + Q::kTile, thread);
    if (thread == 0) {
      tile_keys[stage].valid = list.length - at;
      tile_keys[stage].bias = list.bias;
      tile_keys[stage].last_bias = list.last_bias;
    }
    at += Q::kKeys;
    if (at >= list.length) {
      at = 0;
      do --level;
      while (level >= lowest && lists[level].length == 0);
    }
  };
  if (level >= lowest) copy_next(0);
  ptx::cp_async_commit();
  bool more = set.enriched >= lowest;
  for (int stage = 0; more; stage ^= 1) {
    more = level >= lowest;
    if (more) copy_next(stage ^ 1);
    ptx::cp_async_commit();
    ptx::cp_async_wait<1>();
    __syncthreads();
    if (rows > 0) {
      const unsigned tile = base + static_cast<unsigned>(stage) * Q::kStage;
      const int halves = (min(tile_keys[stage].valid, Q::kKeys) + 31) / 32;
      for (int half = 0; half < halves; ++half) {
        const unsigned part = tile + static_cast<unsigned>(half) * 64 * D;
        step(std::integral_constant<int, 2>{}, part, part + Q::kTile, [&] {
          const TileKeys& keys = tile_keys[stage];
          return TileKeys{keys.valid - 32 * half, keys.bias, keys.last_bias};
        });
      }
    }
    __syncthreads();
  }

  const int length = fine.length;
  for (int p = 0, stage = 0; p < length; p += 16, stage ^= 1) {
    const unsigned tile = ring + static_cast<unsigned>(stage) * Q::kFineStage;
    if (p + 16 < length) copy_fine(p + 16, ring + static_cast<unsigned>(stage ^ 1) * Q::kFineStage);
    ptx::cp_async_commit();
    ptx::cp_async_wait<1>();
    __syncwarp();
    step(std::integral_constant<int, 1>{}, tile, tile + Q::kFineTile, [&] {
      return TileKeys{length - p, 0.0f, 0.0f};
    });
    __syncwarp();
  }
  ptx::cp_async_wait<0>();
}

/// log2 of a block size that is a power of two.
inline int log2_of(int block) {
  int shift = 0;
  while ((1 << shift) < block) ++shift;
  return shift;
}

/// Calls f.operator()<D>() for a head dimension that the kernels cover.
template <class F>
void visit_head_dimension(std::int64_t d, F&& f) {
  if (d == 32) return f.template operator()<32>();
  if (d == 64) return f.template operator()<64>();
  return f.template operator()<128>();
}

}  // namespace llsa::kernels::cuda

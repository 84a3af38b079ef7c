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

/// Fewer than 2^30 tokens in blocks of 16 or more have no more levels.
constexpr int kMaxMmaLevels = 8;

/// Byte offset of a chunk of 8 elements in a tile.
template <int D>
__device__ __forceinline__ unsigned tile_offset(int row, int chunk) {
  const int key = D == 32 ? row / 2 % 4 : row % 8;
  return static_cast<unsigned>(row * 2 * D + ((chunk ^ key) << 4));
}

/// From the address of chunk 0 or 1 of a row: that of the chunk `chunks` further, an even number. The swizzle
/// goes into the address of a tile aligned to 128 bytes: as sums, the offsets of all chunks that a lane reads
/// would be held in registers.
__device__ __forceinline__ unsigned chunk_further(unsigned at, int chunks) {
  return (at ^ static_cast<unsigned>(chunks % 8 << 4)) + static_cast<unsigned>(chunks / 8 * 128);
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

/// For rows 16 u .. 16 u + 15 of a tile: a[.] += left . row, as two results of 8 columns each.
template <int D>
__device__ __forceinline__ void add_left_times_rows(float (&a)[2][4], const std::uint32_t (&left)[D / 16][4],
                                                    unsigned tile, int u, int lane) {
  const unsigned at = tile + tile_offset<D>(lane % 8 + lane / 16 * 8, lane / 8 % 2);
  const unsigned rows = static_cast<unsigned>(u) * 32 * D;
  SIMT_UNROLL
  for (int k = 0; k < D / 16; ++k) {
    std::uint32_t r[4];
    ptx::ldmatrix_x4(r, chunk_further(at, 2 * k) + rows);
    ptx::mma_m16n8k16_bf16(a[0], left[k], r[0], r[1]);
    ptx::mma_m16n8k16_bf16(a[1], left[k], r[2], r[3]);
  }
}

/// The same with a[.] = left . row.
template <int D>
__device__ __forceinline__ void left_times_rows(float (&a)[2][4], const std::uint32_t (&left)[D / 16][4],
                                                unsigned tile, int u, int lane) {
  SIMT_UNROLL
  for (int i = 0; i < 4; ++i) a[0][i] = a[1][i] = 0;
  add_left_times_rows<D>(a, left, tile, u, lane);
}

/// sum += p x for x the rows 16 u .. 16 u + 15 of a tile.
template <int D>
__device__ __forceinline__ void add_left_times_tile(float (&sum)[D / 8][4], const std::uint32_t (&p)[4],
                                                    unsigned tile, int u, int lane) {
  const unsigned at = tile + tile_offset<D>(lane % 16, lane / 16);
  const unsigned rows = static_cast<unsigned>(u) * 32 * D;
  SIMT_UNROLL
  for (int c = 0; c < D / 8; c += 2) {
    std::uint32_t r[4];
    ptx::ldmatrix_x4_trans(r, chunk_further(at, c) + rows);
    ptx::mma_m16n8k16_bf16(sum[c], p, r[0], r[1]);
    ptx::mma_m16n8k16_bf16(sum[c + 1], p, r[2], r[3]);
  }
}

/// Sizes of a block of a query-major kernel. Keys and values come into shared memory in pieces: 16 rows of K,
/// then the 16 of V, so that what a lane reads of both lies at a fixed distance. There are two tiles of kKeys
/// that all warps use, then two of 16 for every warp, which warps of the same query block put together.
template <int head_dimension, int warps, int per_processor, int pieces>
struct QueryBlock {
  static constexpr int kD = head_dimension;
  static constexpr int kWarps = warps;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kQueries = 16 * kWarps;
  static constexpr int kPerProcessor = per_processor;
  static constexpr int kPieces = pieces;             // that a step takes at most
  static constexpr int kKeys = kD == 128 ? 32 : 64;  // of a shared tile
  static constexpr unsigned kPiece = 2 * 16 * kD * 2;
  static constexpr unsigned kTile = kKeys / 16 * kPiece;
  static constexpr unsigned kRings = 2 * kTile;
  static constexpr unsigned bytes(bool fine) { return kRings + (fine ? kWarps * 2 * kPiece : 0); }
};

/// The 16 queries of a warp, of which `rows` exist.
template <class Q>
struct WarpQueries {
  int lane, block_first, first, rows;

  __device__ __forceinline__ WarpQueries(int thread, std::int64_t queries)
      : lane(thread % 32),
        block_first(static_cast<int>(blockIdx.x) * Q::kQueries),
        first(block_first + thread / 32 * 16),
        rows(max(0, min(16, static_cast<int>(queries) - first))) {}
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

/// Where a chunk of a row of K lies in a tile of pieces; that of V follows 16 rows later.
template <int D>
__device__ __forceinline__ unsigned piece_offset(int row, int chunk) {
  return static_cast<unsigned>(row / 16) * 64 * D + tile_offset<D>(row % 16, chunk);
}

/// Copies `rows` rows of keys and values, positions p on of a list, into a tile; by `threads` threads.
template <int D, int rows, int threads>
__device__ __forceinline__ void copy_tile(const KeyList& list, int p, unsigned tile, int thread) {
  constexpr int kChunks = D / 8;
  static_assert(rows * kChunks % threads == 0);
  SIMT_UNROLL
  for (int i = 0; i < rows * kChunks / threads; ++i) {
    const int at = thread + i * threads;
    const int row = at / kChunks, chunk = at % kChunks;
    const bool there = p + row < list.length;
    const std::int64_t token = there ? list.token(p + row) : 0;
    const unsigned to = tile + piece_offset<D>(row, chunk), bytes = there ? 16 : 0;
    ptx::cp_async16(to, list.k + (token * list.k_stride + chunk * 8), bytes);
    ptx::cp_async16(to + 32 * D, list.v + (token * list.v_stride + chunk * 8), bytes);
  }
}

/// Copies the block of B keys and values at position p of a list of picks into a tile, by 2 B threads.
/// Through L1: sibling query blocks pick much the same.
template <int D>
__device__ __forceinline__ void copy_picked_block(const KeyList& list, int p, unsigned tile, int thread) {
  constexpr int kChunks = D / 8;
  const int first = thread / kChunks, chunk = thread % kChunks, rows = (16 << list.shift) / D;
  const std::int64_t token = list.token(p) + first;
  const Element* const k = list.k + (token * list.k_stride + chunk * 8);
  const Element* const v = list.v + (token * list.v_stride + chunk * 8);
  const std::int64_t k_step = static_cast<std::int64_t>(rows) * list.k_stride,
                     v_step = static_cast<std::int64_t>(rows) * list.v_stride;
  const int there = list.length - p;
  SIMT_UNROLL
  for (int i = 0; i < kChunks / 2; ++i) {
    const int row = first + i * rows;
    const unsigned to = tile + piece_offset<D>(row, chunk), bytes = row < there ? 16 : 0;
    ptx::cp_async16_ca(to, k + i * k_step, bytes);
    ptx::cp_async16_ca(to + 32 * D, v + i * v_step, bytes);
  }
}

/// Makes base-2 scores of the products q . k with keys 16 u .. 16 u + 15 of a tile: s = scale s + log2 w -
/// minus, the last for each of a lane's two rows; -inf beyond the end of the list.
__device__ __forceinline__ void finish_scores(float (&s)[2][4], float scale, const TileKeys& keys, int u,
                                              float minus0, float minus1, int lane) {
  const float shift[2] = {keys.bias - minus0, keys.bias - minus1};
  SIMT_UNROLL
  for (int i = 0; i < 8; ++i) s[i / 4][i % 4] = fmaf(s[i / 4][i % 4], scale, shift[i % 4 / 2]);
  if (!keys.ends_within(16 * (u + 1))) return;
  SIMT_UNROLL
  for (int i = 0; i < 8; ++i) {
    const int p = u * 16 + i / 4 * 8 + lane % 4 * 2 + i % 2;
    if (p == keys.valid - 1) s[i / 4][i % 4] += keys.last_bias - keys.bias;
    if (p >= keys.valid) s[i / 4][i % 4] = -INFINITY;
  }
}

/// The place of a thread among the B / 16 warps of a query block, with their list of fine keys and their two
/// tiles.
template <class Q>
struct FineKeys {
  int warps, first_warp, thread;
  KeyList& list;
  unsigned tiles;

  __device__ __forceinline__ FineKeys(int warps_of_query_block, int thread_of_block, KeyList* lists,
                                      unsigned memory)
      : warps(warps_of_query_block),
        first_warp(thread_of_block / 32 & -warps),
        thread(thread_of_block - first_warp * 32),
        list(lists[first_warp]),
        tiles(memory + Q::kRings + static_cast<unsigned>(first_warp) * 2 * Q::kPiece) {}

  __device__ __forceinline__ unsigned tile(int stage) const {
    return tiles + static_cast<unsigned>(stage * warps) * Q::kPiece;
  }
  __device__ __forceinline__ void copy(int p, int stage) const {
    copy_picked_block<Q::kD>(list, p, tile(stage), thread);
  }
};

/// Walks over all keys that the block's queries attend to, coarse levels first: their tiles are shared by the
/// block's warps (sibling query blocks: 128 and 64 divide B^2), copied while the one before is used. Then the
/// fine blocks in the same way, each shared by the B / 16 warps of one query block. Calls
/// step(integral_constant<pieces>, address of the first, keys) for every one or two pieces, in a warp that
/// has queries; keys() gives the TileKeys, which are to be read no sooner than needed.
template <class Q, class Step>
__device__ __forceinline__ void for_attended_tiles(const AttendedSet<Element>& set, int shift, int head,
                                                   const WarpQueries<Q>& mine, unsigned char* memory,
                                                   Step step) {
  constexpr int D = Q::kD;
  SIMT_SHARED(lists, KeyList[kMaxMmaLevels + 1]);
  SIMT_SHARED(fine_lists, KeyList[Q::kWarps]);
  SIMT_SHARED(tile_keys, TileKeys[2]);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const unsigned base = simt::smem_address(memory);
  const bool full = set.levels == 0;
  const int warps = full ? 1 : 1 << (shift - 4);  // of a query block

  // Lists, out of the registers: level l at lists[l], level 0 only in full attention; fine ones at the first
  // warp of a query block. A lane for each, so that they wait for their picks together.
  {
    const FineKeys<Q> fine(warps, thread, fine_lists, base);
    const int query = mine.block_first + fine.first_warp * 16;
    const bool takes_fine = fine.thread == 0;
    const bool takes_shared = warp == 0 && lane <= set.enriched && (lane > 0 || full);
    if (takes_fine) fine.list.length = 0;
    if (takes_shared || (takes_fine && !full && query < set.queries)) {
      KeyList& list = takes_shared ? lists[lane] : fine.list;
      list = key_list(set, lane, head, query, shift);
    }
    __syncthreads();
    if (fine.list.length > 0) fine.copy(0, 0);
  }

  const int lowest = full ? 0 : 1;
  int level = set.enriched, at = 0;  // the next shared tile
  const auto copy_shared = [&](int stage) {
    const KeyList& list = lists[level];
    copy_tile<D, Q::kKeys, Q::kThreads>(list, at, base + static_cast<unsigned>(stage) * Q::kTile, thread);
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
  const auto use = [&](unsigned tile, int keys, auto keys_from) {
    for (int from = 0; from < keys; from += 16 * Q::kPieces)
      step(std::integral_constant<int, Q::kPieces>{}, tile + static_cast<unsigned>(from / 16) * Q::kPiece,
           [&] { return keys_from(from); });
  };

  // One barrier a tile: it says that the tile has come and that nobody uses the one before any longer, whose
  // place the next copy takes.
  bool more = level >= lowest;
  if (more) copy_shared(0);
  ptx::cp_async_commit();
  for (int stage = 0; more; stage ^= 1) {
    ptx::cp_async_wait<0>();
    __syncthreads();
    more = level >= lowest;
    if (more) copy_shared(stage ^ 1);
    ptx::cp_async_commit();
    if (mine.rows > 0)
      use(base + static_cast<unsigned>(stage) * Q::kTile, min(tile_keys[stage].valid, Q::kKeys),
          [&](int from) {
            const TileKeys& keys = tile_keys[stage];
            return TileKeys{keys.valid - from, keys.bias, keys.last_bias};
          });
  }

  // The thread's number is read anew, lest what follows from it be held in registers all the while.
  const FineKeys<Q> fine(warps, ptx::thread_number(), fine_lists, base);
  const int length = fine.list.length, block = 16 * warps;
  for (int p = 0, stage = 0; p < length; p += block, stage ^= 1) {
    ptx::cp_async_wait<0>();
    if (warps == 1)
      __syncwarp();
    else
      ptx::named_barrier(1 + fine.first_warp, 32 * warps);
    if (p + block < length) fine.copy(p + block, stage ^ 1);
    ptx::cp_async_commit();
    if (mine.rows == 0) continue;
    const auto keys_from = [&](int from) { return TileKeys{length - p - from, 0.0f, 0.0f}; };
    if (Q::kPieces > 1 && warps == 1)
      step(std::integral_constant<int, 1>{}, fine.tile(stage), [&] { return keys_from(0); });
    else
      use(fine.tile(stage), min(length - p, block), keys_from);
  }
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

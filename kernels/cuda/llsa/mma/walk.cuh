// The walk of the kernels by query over the keys that sibling query blocks attend to: first the coarse
// levels, in tiles that all warps of a thread block share, then the fine blocks, in one of two ways.
//
//   rows   every query block follows its own row of picks (mma/rows.cuh): for tables without words, for a
//          single level, and for more picks than the other way has room for
//   words  each key block that any of the thread block's query blocks picked is copied once for all of them
//          (mma/words.cuh)
//
// Both take a query's keys in the same order and give the same bits.
#pragma once

#include "mma.cuh"

namespace llsa::kernels::cuda {

/// Fewer than 2^30 tokens in blocks of 16 or more never have more levels.
constexpr int kMaxMmaLevels = 8;

/// Sizes of a block of a query-major kernel. Keys and values come into shared memory in pieces: 16 rows of K,
/// then the 16 rows of V, so a lane reads both at a fixed distance. There are two tiles of kKeys that all
/// warps use; the walk over the fine blocks says what memory it takes besides, or instead.
///
/// In the usual case B = 16, and fine keys and values lie row after row without gaps: B and the distance of rows are
/// then constants.
template <int head_dimension, int warps, int per_processor, int pieces, bool usual>
struct QueryBlock {
  static constexpr int kD = head_dimension;
  static constexpr bool kUsual = usual;
  static constexpr int kWarps = warps;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kQueries = 16 * kWarps;
  static constexpr int kPerProcessor = per_processor;
  static constexpr int kPieces = pieces;             // most pieces of a step
  static constexpr int kKeys = kD == 128 ? 32 : 64;  // of a shared tile
  static constexpr unsigned kPiece = 2 * 16 * kD * 2;
  static constexpr unsigned kTile = kKeys / 16 * kPiece;
  static constexpr unsigned kRings = 2 * kTile;

  static __device__ __forceinline__ int shift(int log2_block) { return kUsual ? 4 : log2_block; }
  static __device__ __forceinline__ int stride(int at_run_time) { return kUsual ? kD : at_run_time; }
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

/// Where the keys and values of a level lie.
struct KeyRows {
  const Element* k;
  const Element* v;
  int k_stride, v_stride;

  KeyRows() = default;
  __device__ __forceinline__ KeyRows(const AttendedSet<Element>& set, int l, int head)
      : k(set.k_head(l, head)),
        v(set.v_head(l, head)),
        k_stride(static_cast<int>(set.k_stride(l))),
        v_stride(static_cast<int>(set.v_stride(l))) {}
};

/// Keys in the order in which they are attended: all, or the blocks of a row of picks. Only the last key may
/// cover fewer tokens than the others.
struct KeyList {
  KeyRows keys;
  const std::int32_t* picks;  // null: dense
  int blocks;                 // that a pick can name
  int length;
  float bias;       // log2 w
  float last_more;  // what the last key's log2 w has more, as a product q . k

  /// The token at a position; positions from a multiple of 16 on to the next are neighbours.
  __device__ __forceinline__ int token(int p, int shift) const {
    if (!picks) return p;
    const std::int32_t j = picks[p >> shift];
    return ((j < blocks ? j : 0) << shift) + (p & ((1 << shift) - 1));
  }
};

/// The number of picks in use in a row of `width`; they come first.
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

/// The keys of a level that the queries of one node attend to.
__device__ inline KeyList key_list(const AttendedSet<Element>& set, int l, int head, int query, int shift) {
  const std::int64_t n = set.level[l].count;
  KeyList list;
  list.keys = KeyRows(set, l, head);
  list.picks = nullptr;
  list.blocks = 0;
  list.length = static_cast<int>(n);
  list.bias = set.template bias<float>(l, 0);
  list.last_more =
      (set.template bias<float>(l, n - 1) - list.bias) * kLn2<float> * std::sqrt(static_cast<float>(set.d));
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
    list.last_more = 0;
  return list;
}

/// Causal attention: how many keys the last query of a block sees, or more if there are fewer queries.
template <class Q>
__device__ __forceinline__ int seen_by_block(const AttendedSet<Element>& set, int block_first) {
  return static_cast<int>(set.seen_by(block_first + Q::kQueries - 1));
}

/// Causal attention: with `valid` positions of the block's list left from a tile's beginning on, row i of a
/// warp sees the positions p < diagonal_ahead + valid + i of the tile.
template <class Q>
__device__ __forceinline__ int diagonal_ahead(const AttendedSet<Element>& set, const WarpQueries<Q>& mine) {
  const int length = min(static_cast<int>(set.level[0].count), seen_by_block<Q>(set, mine.block_first));
  return static_cast<int>(set.seen_by(mine.first)) - length;
}

/// Whether a thread makes the list of a level that the block's warps share: level l thread l.
__device__ __forceinline__ bool makes_shared_list(const AttendedSet<Element>& set, int thread) {
  return thread <= set.enriched && (thread > 0 || set.levels == 0);
}

/// The keys of a tile. `valid` positions of the list are left from the tile's beginning on.
struct TileKeys {
  static constexpr bool kWeighted = true;
  int valid;
  float bias, last_more;  // as in the list

  /// Whether the first n positions include the end of the list, or a last key with a bias of its own.
  __device__ __forceinline__ bool ends_within(int n) const {
    return valid < n || (valid == n && last_more != 0);
  }
  /// The base-2 score of a product q . k.
  __device__ __forceinline__ float score(float product, float scale) const {
    return fmaf(product, scale, bias);
  }
  /// log2 w - x
  __device__ __forceinline__ float bias_less(float x) const { return bias - x; }
};

/// The keys of a fine block, w = 1.
struct FineKeys {
  static constexpr bool kWeighted = false;
  int valid;

  __device__ __forceinline__ bool ends_within(int n) const { return valid < n; }
  __device__ __forceinline__ float score(float product, float scale) const { return product * scale; }
  __device__ __forceinline__ float bias_less(float x) const { return -x; }
};

/// Where a chunk of a row of K lies in a tile of pieces; that of V follows 16 rows later.
template <int D>
__device__ __forceinline__ unsigned piece_offset(int row, int chunk) {
  return static_cast<unsigned>(row / 16) * 64 * D + tile_offset<D>(row % 16, chunk);
}

/// Copies kKeys keys and values, positions p on of a list, into a tile that all warps use; by all threads.
template <class Q>
__device__ __forceinline__ void copy_tile(const KeyList& list, int p, int shift, unsigned tile,
                                          unsigned thread) {
  constexpr int kD = Q::kD, kChunks = kD / 8;
  static_assert(Q::kKeys * kChunks % Q::kThreads == 0);
  SIMT_UNROLL
  for (int i = 0; i < Q::kKeys * kChunks / Q::kThreads; ++i) {
    const unsigned at = thread + static_cast<unsigned>(i * Q::kThreads);
    const int row = static_cast<int>(at / kChunks), chunk = static_cast<int>(at % kChunks);
    const bool there = p + row < list.length;
    const std::int64_t token = there ? list.token(p + row, shift) : 0;
    const unsigned to = tile + piece_offset<kD>(row, chunk), bytes = there ? 16 : 0;
    ptx::cp_async16(to, list.keys.k + (token * Q::stride(list.keys.k_stride) + chunk * 8), bytes);
    ptx::cp_async16(to + 32 * kD, list.keys.v + (token * Q::stride(list.keys.v_stride) + chunk * 8), bytes);
  }
}

/// What a thread copies of every block of B keys: the same chunk of some rows of K and V; by 2 B threads. Through
/// L1, because neighbouring query blocks pick nearly the same key blocks.
template <class Q>
struct KeyBlockCopy {
  static constexpr int kChunks = Q::kD / 8;
  const Element* k;  // its chunk of token 0, or of its first row if the distance of rows is constant
  const Element* v;
  int k_stride, v_stride;
  unsigned thread;

  __device__ __forceinline__ KeyBlockCopy(const KeyRows& keys, unsigned thread_of_copy)
      : k_stride(Q::stride(keys.k_stride)), v_stride(Q::stride(keys.v_stride)), thread(thread_of_copy) {
    const int before = Q::kUsual ? row() * Q::kD + chunk() * 8 : chunk() * 8;
    k = keys.k + before;
    v = keys.v + before;
  }
  __device__ __forceinline__ int row() const { return static_cast<int>(thread / kChunks); }
  __device__ __forceinline__ int chunk() const { return static_cast<int>(thread % kChunks); }

  /// Starts the copies of the block from `token` on into a tile. `there` keys exist, or all if that is more.
  __device__ __forceinline__ void operator()(int token, int there, int shift, unsigned tile) const {
    const int rows = (16 << shift) / Q::kD;  // that the threads copy at once
    const std::int64_t from = Q::kUsual ? token : token + row();
    const Element* const from_k = k + from * k_stride;
    const Element* const from_v = v + from * v_stride;
    const unsigned first = tile + tile_offset<Q::kD>(row(), chunk());
    SIMT_UNROLL
    for (int i = 0; i < kChunks / 2; ++i) {
      const int at = (row() + i * rows) & 63;  // it is less than B; the mask says that it is not negative
      const unsigned bytes = at < there ? 16 : 0;
      const unsigned to =
          Q::kUsual ? rows_on<Q::kD>(first, i * rows) : tile + piece_offset<Q::kD>(at, chunk());
      ptx::cp_async16_ca(to, from_k + static_cast<std::int64_t>(i * rows) * k_stride, bytes);
      ptx::cp_async16_ca(to + 32 * Q::kD, from_v + static_cast<std::int64_t>(i * rows) * v_stride, bytes);
    }
  }
};

/// Minds the end of the list in the products q . k with keys 16 u .. 16 u + 15 of a tile: scale s + bias is then the
/// base-2 score of the last key, too, and -inf beyond the end.
template <class Keys>
__device__ __forceinline__ void mind_end(float (&s)[2][4], const Keys& keys, int u, int lane) {
  if (!keys.ends_within(16 * (u + 1))) return;
  SIMT_UNROLL
  for (int i = 0; i < 8; ++i) {
    const int p = u * 16 + i / 4 * 8 + lane % 4 * 2 + i % 2;
    if constexpr (Keys::kWeighted)
      if (p == keys.valid - 1) s[i / 4][i % 4] += keys.last_more;
    if (p >= keys.valid) s[i / 4][i % 4] = -INFINITY;
  }
}

/// Calls step for the pieces of a tile that hold its first `keys` keys.
template <class Q, class Step, class Keys>
__device__ __forceinline__ void step_through(unsigned tile, int keys, Step& step, Keys keys_from) {
  for (int from = 0; from < keys; from += 16 * Q::kPieces)
    step(std::integral_constant<int, Q::kPieces>{}, tile + static_cast<unsigned>(from / 16) * Q::kPiece,
         [&] { return keys_from(from); });
}

/// The same for a fine block of 16 `warps` keys. `valid()` of them exist, or all if that is more.
template <class Q, class Step, class Valid>
__device__ __forceinline__ void step_through_block(unsigned tile, int warps, Step& step, Valid valid) {
  const auto keys_from = [&](int from) { return FineKeys{valid() - from}; };
  if ((Q::kUsual || Q::kPieces > 1) && warps == 1)
    step(std::integral_constant<int, 1>{}, tile, [&] { return keys_from(0); });
  else
    step_through<Q>(tile, min(valid(), 16 * warps), step, keys_from);
}

/// Static shared memory of the walk below, in bytes, besides that of the fine blocks.
constexpr std::size_t kListBytes = sizeof(KeyList[kMaxMmaLevels + 1]) + sizeof(TileKeys[2]);

/// Walks over all keys that the block's queries attend to. Fine::begin() makes the lists of all levels and
/// has a barrier; Fine::walk() comes last and takes the fine blocks. The block's query blocks are siblings,
/// since 128 and 64 divide B^2. A tile is copied while the one before is used. Calls
/// step(integral_constant<pieces>, address of the first, keys) for every one or two pieces, in warps that
/// have queries. keys() returns the TileKeys or FineKeys; calling it late saves registers.
template <class Fine, class Q, class Step>
__device__ __forceinline__ void for_attended_tiles(const AttendedSet<Element>& set, int shift, int head,
                                                   const WarpQueries<Q>& mine, unsigned char* memory,
                                                   Step step) {
  SIMT_SHARED(lists, KeyList[kMaxMmaLevels + 1]);
  SIMT_SHARED(tile_keys, TileKeys[2]);
  SIMT_SHARED(fine, typename Fine::Shared);
  const unsigned thread = threadIdx.x;
  const unsigned base = simt::smem_address(memory);

  // Lists lie in shared memory to save registers: level l at lists[l], level 0 only in full attention.
  const int lowest = set.levels == 0 ? 0 : 1;
  Fine::begin(set, shift, head, mine, base, lists, fine);

  int level = set.enriched, at = 0;  // the next shared tile
  const auto copy_shared = [&](int stage) {
    const KeyList& list = lists[level];
    copy_tile<Q>(list, at, shift, base + static_cast<unsigned>(stage) * Q::kTile, thread);
    if (thread == 0) {
      tile_keys[stage].valid = list.length - at;
      tile_keys[stage].bias = list.bias;
      tile_keys[stage].last_more = list.last_more;
    }
    at += Q::kKeys;
    if (at >= list.length) {
      at = 0;
      do --level;
      while (level >= lowest && lists[level].length == 0);
    }
  };

  // There is one barrier for each tile. After it the tile has come, and no warp uses the tile before any
  // longer, so the next copy may take its place.
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
      step_through<Q>(base + static_cast<unsigned>(stage) * Q::kTile, min(tile_keys[stage].valid, Q::kKeys),
                      step, [&](int from) {
                        const TileKeys& keys = tile_keys[stage];
                        return TileKeys{keys.valid - from, keys.bias, keys.last_more};
                      });
  }
  Fine::walk(set, shift, mine, base, fine, step);
}

}  // namespace llsa::kernels::cuda

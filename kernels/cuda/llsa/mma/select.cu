// Selection on tensor cores: one launch per level.
//
//     key[i][c] = ordered(Q^(l)[i] . K^(l)[candidate c]);   I_l[i] = the K largest, ties to the lower one
//
// Tiling: a block has 16 queries and four warps (16 warps at the coarsest level of few queries) or, if there
// are many candidates, 64 queries (32 at D = 128) and eight warps. Its queries are children of one parent, so
// they share their candidates. Candidates come in chunks of 128 or 256. The warps share a chunk's products, 8
// or 16 candidates at a time, and put the keys into shared memory. Then every warp picks for its rows, in
// registers, from the kept candidates and the chunk, and keeps the K best with their indices. Kept candidates
// are earlier ones and come first, so ties go to the lower index in any number of chunks. If nothing beats the
// row's K-th best, the row skips the chunk. Any number of candidates fits, and no scores leave the
// multiprocessor.
//
// Below the coarsest level a block also writes the picks of its rows as bits, R_l (llsa.h). The word of a
// candidate has a bit for every child of the parent. The block has 16 of these children or more, so it writes
// whole units of 16 bits. The rows set their bits in shared memory, where the keys were, by integer atomics.
//
// Products are mma.m16n8k16 with both operands straight from global memory. A lane holds 8 neighbouring
// elements of a row, 16 bytes, for two mma: any order of the columns of the product will do as long as both
// operands agree. Tiles in shared memory would save nothing: below the coarsest level one mma of each block
// (four of 64 queries) uses a key row, which comes from L2, or from L1 for siblings.
//
// FLOPs: 2 D per candidate. Bytes: 2 D per candidate and block from L2, 8 per score through shared memory, 4
// per pick and 2 per candidate and 16 rows written. 16 queries of 128 candidates at D = 64 (B = 16, K = 8):
// 64 mma, 16 KB of keys, then four rows per warp (one with 16 warps) of at most K steps, each with a warp
// reduction. Bound by the latency of these, which is why blocks are small and many fit a multiprocessor. In
// long rows (n_L of thousands) L2 and shared memory bind.
#include "kernels/cuda/llsa/index/select.cuh"
#include "kernels/cuda/llsa/operands.cuh"
#include "kernels/cuda/simt/ptx.h"

namespace llsa::kernels::cuda {
namespace {

using Element = __nv_bfloat16;

/// From this many candidates on, blocks have more queries and read the keys less often.
constexpr std::int64_t kManyCandidates = 2048;

/// Up to this many blocks, two for each of 132 multiprocessors, a block at the coarsest level has a warp for each row.
constexpr std::int64_t kFewBlocks = 264;

/// A block of 16 `tiles` queries that keep at most `most` picks. Shared memory: keys of a chunk of
/// candidates, then per row the kept keys, their candidates, and the worst of them once there are K.
template <int tiles, int most, int chunk, int warps = tiles == 1 ? 4 : 8>
struct SelectBlock {
  static constexpr int kTiles = tiles;
  static constexpr int kMost = most;
  static constexpr int kChunk = chunk;
  static constexpr int kRows = 16 * tiles;
  static constexpr int kWarps = warps;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kKept = (most + 31) / 32;  // keys of a lane, like the next
  static constexpr int kNew = chunk / 32;
  static constexpr int kHalves = tiles == 1 ? 2 : 1;  // groups of 8 candidates that a warp takes at a time
  static constexpr int kStride = chunk + 8;  // of rows: what a warp stores at a time goes to different banks
  static constexpr std::size_t kBytes = sizeof(std::uint32_t) * (kRows * (kStride + 2 * kMost + 1));
};

/// Keys of a lane in registers: kept ones, then those of a chunk.
template <int n>
struct RegisterRow {
  using Key = std::uint32_t;
  Key keys[n];

  template <class F>
  __device__ __forceinline__ void each(F f) const {
    SIMT_UNROLL
    for (int i = 0; i < n; ++i) f(keys[i]);
  }
};

/// The cut of cut_by_counting, for few picks: lanes sort their keys, then the largest of the 32 first keys
/// leaves, step by step, in at most k steps.
template <int n>
__device__ __forceinline__ Cut<std::uint32_t> cut_by_maxima(RegisterRow<n> row, int k) {
  SIMT_UNROLL
  for (int end = n - 1; end > 0; --end) SIMT_UNROLL
  for (int i = 0; i < end; ++i) {
    const std::uint32_t a = row.keys[i], b = row.keys[i + 1];
    row.keys[i] = max(a, b);
    row.keys[i + 1] = min(a, b);
  }
  std::uint32_t last = 0xffffffffu;
  int above = 0, taken = 0;  // keys larger than `last`, keys that have left
  for (;;) {
    const std::uint32_t best = __reduce_max_sync(kAllLanes, row.keys[0]);
    if (best == 0) return {1, k};  // fewer than k
    if (best != last) above = taken;
    last = best;
    const bool leaves = row.keys[0] == best;
    taken += __popc(__ballot_sync(kAllLanes, leaves));
    if (taken >= k) return {best, k - above};
    SIMT_UNROLL
    for (int i = 0; i + 1 < n; ++i)
      if (leaves) row.keys[i] = row.keys[i + 1];
    if (leaves) row.keys[n - 1] = 0;
  }
}

/// Elements 8 t .. 8 t + 7 of every 32 of a row, t = lane % 4; zero for rows that are not there.
template <int D>
__device__ __forceinline__ void load_row(Pack<std::uint32_t, 4> (&x)[D / 32], const Element* row, bool there,
                                         int lane) {
  SIMT_UNROLL
  for (int c = 0; c < D / 32; ++c)
    x[c] = there ? load_pack<4>(reinterpret_cast<const std::uint32_t*>(row + 32 * c + lane % 4 * 8))
                 : Pack<std::uint32_t, 4>{};
}

/// The bits of a block's rows in R_l; `kept` [rows, S::kMost] are candidates, or -1. The last block of a
/// parent clears the units behind its own.
template <class S>
__device__ __forceinline__ void write_words(const SelectLevel<Element>& s, const std::int32_t* kept, int rows,
                                            std::uint32_t* marks) {
  constexpr int kWords = (S::kTiles + 1) / 2;  // of 32 bits, that the block's rows take
  constexpr int kAtATime = S::kRows * S::kStride / kWords;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int first = static_cast<int>(blockIdx.x) * S::kRows, candidates = static_cast<int>(s.candidates);
  const int parent = first / s.block, unit = (first - parent * s.block) / 16;
  const int children = min(static_cast<int>(s.count) - parent * s.block, s.block);
  const bool last = 16 * unit + S::kRows >= children;
  const int units = last ? s.word_units - unit : S::kTiles;
  std::uint16_t* const to =
      s.words + (blockIdx.y * s.parent_count + parent) * s.candidates * s.word_units + unit;
  for (int base = 0; base < candidates; base += kAtATime) {
    const int here = min(candidates - base, kAtATime);
    if (base > 0) __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < here * kWords; i += S::kThreads) marks[i] = 0;
    __syncthreads();
    for (int row = warp; row < rows; row += S::kWarps)
      for (int e = lane; e < s.width; e += 32) {
        const int c = kept[row * S::kMost + e] - base;
        if (c >= 0 && c < here) atomicOr(marks + (c * kWords + row / 32), 1u << row % 32);
      }
    __syncthreads();
    for (int c = static_cast<int>(threadIdx.x); c < here; c += S::kThreads)
      for (int u = 0; u < units; ++u) {
        const std::uint32_t bits = u < S::kTiles ? marks[c * kWords + u / 2] >> 16 * (u % 2) : 0;
        to[static_cast<std::int64_t>(base + c) * s.word_units + u] = static_cast<std::uint16_t>(bits);
      }
  }
}

template <int D, class S>
__global__ void __launch_bounds__(S::kThreads, (S::kWarps == 16 ? 1 : 0))
    select_rows(SelectLevel<Element> s, std::int32_t* out) {
  SIMT_DYNAMIC_SHARED(memory);
  using Key = std::uint32_t;
  Key* const keys = reinterpret_cast<Key*>(memory);
  Key* const kept_keys = keys + S::kRows * S::kStride;
  std::int32_t* const kept_index = reinterpret_cast<std::int32_t*>(kept_keys + S::kRows * S::kMost);
  Key* const worst = reinterpret_cast<Key*>(kept_index + S::kRows * S::kMost);

  constexpr int kStep = 8 * S::kHalves;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int count = static_cast<int>(s.count), candidates = static_cast<int>(s.candidates);
  const int first = static_cast<int>(blockIdx.x) * S::kRows, rows = min(count - first, S::kRows);
  const std::int64_t head_row = blockIdx.y * s.count;
  const std::int32_t* const picks = s.parents ? s.picks_above(head_row + first) : nullptr;
  const auto key_of = [&](int candidate) {  // or `count` for an unused pick
    if (!picks) return candidate;
    const unsigned c = static_cast<unsigned>(candidate), block = static_cast<unsigned>(s.block);
    const std::int32_t j = picks[c / block];
    return j < 0 ? count : j * s.block + static_cast<int>(c % block);
  };

  std::uint32_t q[S::kTiles][D / 16][4];
  SIMT_UNROLL
  for (int tile = 0; tile < S::kTiles; ++tile) {
    const int row = 16 * tile + lane / 4;
    const Element* const from = s.q + (head_row + first + row) * D;
    Pack<std::uint32_t, 4> upper[D / 32], lower[D / 32];
    load_row<D>(upper, from, row < rows, lane);
    load_row<D>(lower, from + 8 * D, row + 8 < rows, lane);
    SIMT_UNROLL
    for (int i = 0; i < D / 16; ++i) {
      q[tile][i][0] = upper[i / 2].value[i % 2 * 2];
      q[tile][i][1] = lower[i / 2].value[i % 2 * 2];
      q[tile][i][2] = upper[i / 2].value[i % 2 * 2 + 1];
      q[tile][i][3] = lower[i / 2].value[i % 2 * 2 + 1];
    }
  }
  for (int row = warp; row < rows; row += S::kWarps) {
    for (int e = lane; e < S::kMost; e += 32) {
      kept_keys[row * S::kMost + e] = 0;
      kept_index[row * S::kMost + e] = -1;
    }
    if (lane == 0) worst[row] = 0;
  }

  for (int base = 0; base < candidates; base += S::kChunk) {
    const int here = min(candidates - base, S::kChunk);
    for (int c = kStep * warp; c < here; c += kStep * S::kWarps) {  // neighbours: children of one pick
      const int key = key_of(base + c), valid = min(count - key, kStep);
      float sum[S::kTiles][S::kHalves][4];
      SIMT_UNROLL
      for (int tile = 0; tile < S::kTiles; ++tile) SIMT_UNROLL
      for (int i = 0; i < 4 * S::kHalves; ++i) sum[tile][i / 4][i % 4] = 0;
      const Element* const from = s.k + (head_row + key + lane / 4) * D;
      Pack<std::uint32_t, 4> x[S::kHalves][D / 32];
      SIMT_UNROLL
      for (int half = 0; half < S::kHalves; ++half)
        load_row<D>(x[half], from + 8 * half * D, lane / 4 + 8 * half < valid, lane);
      SIMT_UNROLL
      for (int i = 0; i < D / 16; ++i) SIMT_UNROLL
      for (int half = 0; half < S::kHalves; ++half) SIMT_UNROLL
      for (int tile = 0; tile < S::kTiles; ++tile)
        ptx::mma_m16n8k16_bf16(sum[tile][half], q[tile][i], x[half][i / 2].value[i % 2 * 2],
                               x[half][i / 2].value[i % 2 * 2 + 1]);
      SIMT_UNROLL
      for (int tile = 0; tile < S::kTiles; ++tile) SIMT_UNROLL
      for (int half = 0; half < S::kHalves; ++half) SIMT_UNROLL
      for (int r = 0; r < 2; ++r) {
        const int column = 8 * half + lane % 4 * 2, row = 16 * tile + 8 * r + lane / 4;
        const auto key_at = [&](int i) {
          if (column + i >= valid) return Key{0};
          return s.own && key + column + i == first + row ? kFirst<Key> : ordered(sum[tile][half][2 * r + i]);
        };
        const Pack<Key, 2> pair = {key_at(0), key_at(1)};
        store_pack(keys + row * S::kStride + c + column, pair);
      }
    }
    __syncthreads();

    for (int row = warp; row < rows; row += S::kWarps) {
      Key* const kept = kept_keys + row * S::kMost;
      std::int32_t* const index = kept_index + row * S::kMost;
      RegisterRow<S::kKept + S::kNew> all;
      const Key floor = worst[row];
      bool better = false;
      SIMT_UNROLL
      for (int i = 0; i < S::kNew; ++i) {
        const int c = 32 * i + lane;
        all.keys[S::kKept + i] = c < here ? keys[row * S::kStride + c] : 0;
        better = better || all.keys[S::kKept + i] > floor;
      }
      if (!__any_sync(kAllLanes, better)) continue;
      std::int32_t kept_before[S::kKept];  // candidates
      SIMT_UNROLL
      for (int i = 0; i < S::kKept; ++i) {
        const int e = 32 * i + lane;
        all.keys[i] = e < S::kMost ? kept[e] : 0;
        kept_before[i] = e < S::kMost ? index[e] : -1;
      }
      __syncwarp();  // all lanes have read the kept candidates
      Cut<Key> cut;
      if constexpr (S::kMost <= 16)
        cut = cut_by_maxima(all, s.width);
      else
        cut = cut_by_counting(all, s.width);
      Taker<Key> taker = {cut};
      SIMT_UNROLL
      for (int i = 0; i < S::kKept + S::kNew; ++i) {
        const int number = taker.number(all.keys[i]);
        if (number >= 0) {
          kept[number] = all.keys[i];
          if (i < S::kKept)
            index[number] = kept_before[i < S::kKept ? i : 0];
          else
            index[number] = base + 32 * (i - S::kKept) + lane;
        }
      }
      if (lane == 0 && taker.taken == s.width) worst[row] = cut.key;
      __syncwarp();
    }
    __syncthreads();
  }

  for (int row = warp; row < rows; row += S::kWarps)
    for (int e = lane; e < s.width; e += 32) {
      const std::int32_t candidate = kept_index[row * S::kMost + e];
      out[(head_row + first + row) * s.width + e] = candidate < 0 ? -1 : key_of(candidate);
    }
  if (s.words) write_words<S>(s, kept_index, rows, keys);
}

template <int D, class S>
void launch(Context& ctx, const SelectLevel<Element>& s, std::int32_t* out) {
  simt::launch(select_rows<D, S>, head_grid(ceil_div(s.count, S::kRows), s.heads), dim3(S::kThreads),
               S::kBytes, stream_of(ctx), s, out);
}

template <int D>
void select_level(Context& ctx, const SelectLevel<Element>& s, std::int32_t* out) {
  constexpr int kTiles = D == 128 ? 2 : 4;
  const bool few = s.width <= 16;
  if (s.candidates >= kManyCandidates && (!s.parents || s.block % (16 * kTiles) == 0))
    (few ? launch<D, SelectBlock<kTiles, 16, 256>> : launch<D, SelectBlock<kTiles, 64, 128>>)(ctx, s, out);
  else if (few && !s.parents && ceil_div(s.count, 16) * s.heads <= kFewBlocks)
    launch<D, SelectBlock<1, 16, 256, 16>>(ctx, s, out);
  else if (few && s.candidates <= 128)
    launch<D, SelectBlock<1, 16, 128>>(ctx, s, out);
  else
    (few ? launch<D, SelectBlock<1, 16, 256>> : launch<D, SelectBlock<1, 64, 256>>)(ctx, s, out);
}

}  // namespace

bool fits_mma_select(const SelectLevel<Element>& s) {
  return select_obstacle(s.width, s.block, s.parents == nullptr, s.d, DType::bf16).empty() &&
         s.count < kTensorCoreTokens && s.candidates < kTensorCoreTokens && s.heads <= 65535;
}

void select_level_mma(Context& ctx, const SelectLevel<Element>& s, std::int32_t* out) {
  if (s.heads == 0) return;
  if (s.d == 32)
    select_level<32>(ctx, s, out);
  else if (s.d == 64)
    select_level<64>(ctx, s, out);
  else
    select_level<128>(ctx, s, out);
}

}  // namespace llsa::kernels::cuda

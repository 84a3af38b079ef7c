// What the key-major kernels of the backward pass share: a level and where its gradients go, tiles of queries
// in shared memory, and the product of a warp's keys with such a tile.
//
// Keys are the rows (M) of every product, so that all of a key's sums stay in the registers of one warp:
//
//     S^T = K Q^T,  dP^T = V dO^T,  P = 2^(S log2(e)/sqrt(D) - LSE/ln 2),  dS = P (dP - delta),
//     dV += P^T dO,  dK += dS^T Q / sqrt(D)
//
// The weight w of a key is missing in P. It is a factor of all sums of that key, and these are divided by c_l
// afterwards. With re-weighting w = c_l and 1 / c_l cancel, so neither is applied; without it, w = 1 and 1 /
// c_l is multiplied in.
//
// The result layout of the first two products is the left operand's layout of the last two. Q and dO are read
// from shared memory twice, as they lie and transposed. LSE and delta belong to columns and come from shared
// memory, too. Rows past the last query are zeros in shared memory: their products vanish and need no mask.
#pragma once

#include "../llsa.h"
#include "mma.cuh"

namespace llsa::kernels::cuda {

/// Level l of a problem: G_l = dK^(l) / c_l + G_{l+1} of the parent, the same for V.
struct KeyProblem {
  const LlsaState& args;
  const Tensor& d_o;
  const QueryTerms& terms;
  int level;
  Tensor above_k, above_v;  ///< G_{l+1} [b,H,n_{l+1},D] f32; undefined at the coarsest enriched level
  Tensor to_k, to_v;        ///< G_l [b,H,n_l,D]: bf16 at level 0, else f32
};

/// The coarsest level, l = L: every query attends to every key.
void dense_keys_backward(Context& ctx, const KeyProblem& problem);

/// A level below it: `lists` are the queries by key of I_{l+1}.
void listed_keys_backward(Context& ctx, const KeyProblem& problem, const IndexTranspose& lists);

constexpr int kKeyWarps = 4;  // of a block
constexpr int kKeyThreads = 32 * kKeyWarps;

/// The keys of a level, the queries, and the results: G_l = (sums over queries) / c_l + G_{l+1} of the
/// parent.
struct KeyLevel {
  HeadRows<const Element> q, d_o, k, v;
  const float* lse2 = nullptr;  // [heads, queries]
  const float* delta = nullptr;
  const float* above_k = nullptr;  // G_{l+1} [heads, above, D], null at the coarsest enriched level
  const float* above_v = nullptr;
  Element* dk = nullptr;  // results [heads, keys, D] of level 0
  Element* dv = nullptr;
  float* gk = nullptr;  // of the others
  float* gv = nullptr;
  int queries = 0, keys = 0, above = 0;
  int d = 0, shift = 0;               // log2 B
  float base2_scale = 0, scale = 0;   // log2(e)/sqrt(D), 1/sqrt(D)
  float factor = 1, last_factor = 1;  // w / c_l; of the last key

  explicit KeyLevel(const KeyProblem& p);

  /// Turns sums of a key into gradients: `pairs` pairs of neighbouring elements, the first at `column`, the others 8
  /// elements apart. sums(c) is the address of pair c. All of G_{l+1} is read before the first result is written, so
  /// that the loads do not wait for the stores.
  template <int pairs, class Sums>
  __device__ __forceinline__ void put(bool of_v, int head, int key, int column, Sums sums) const {
    const float weight = (key == keys - 1 ? last_factor : factor) * (of_v ? 1.0f : scale);
    float2 more[pairs];
    const float* const above_sums = of_v ? above_v : above_k;
    const float* const from =
        above_sums + ((static_cast<std::int64_t>(head) * above + (key >> shift)) * d + column);
    SIMT_UNROLL
    for (int c = 0; c < pairs; ++c)
      more[c] = above_sums ? *reinterpret_cast<const float2*>(from + 8 * c) : make_float2(0.0f, 0.0f);
    SIMT_UNROLL
    for (int c = 0; c < pairs; ++c)
      more[c] = make_float2(sums(c)[0] * weight + more[c].x, sums(c)[1] * weight + more[c].y);
    const std::int64_t at = (static_cast<std::int64_t>(head) * keys + key) * d + column;
    if (dk) {
      Element* const to = (of_v ? dv : dk) + at;
      SIMT_UNROLL
      for (int c = 0; c < pairs; ++c)
        *reinterpret_cast<std::uint32_t*>(to + 8 * c) = pack_bf16(more[c].x, more[c].y);
    } else {
      float* const to = (of_v ? gv : gk) + at;
      SIMT_UNROLL
      for (int c = 0; c < pairs; ++c) *reinterpret_cast<float2*>(to + 8 * c) = more[c];
    }
  }
};

/// A stage of a ring: tiles of Q and of dO, then LSE and delta.
template <int D, int rows>
struct QueryStage {
  static constexpr unsigned kTile = rows * D * 2;
  static constexpr unsigned kTerms = 2 * kTile;
  static constexpr unsigned kBytes = kTerms + rows * 8;
  static_assert(kBytes % 128 == 0, "the swizzle below works on aligned tiles");
};

/// Where a head's queries lie.
struct HeadQueries {
  const Element* q;
  const Element* d_o;
  const float* lse2;
  const float* delta;
};
__device__ __forceinline__ HeadQueries head_queries(const KeyLevel& level, int head) {
  const std::int64_t first = static_cast<std::int64_t>(head) * level.queries;
  return {level.q.head(head), level.d_o.head(head), level.lse2 + first, level.delta + first};
}

/// What a thread copies of every stage: the same chunk of some rows of Q and dO, and one LSE or delta.
template <int D, int rows, int threads, bool through_l1>
struct QueryCopy {
  using Stage = QueryStage<D, rows>;
  static constexpr int kChunks = D / 8, kRows = threads / kChunks;  // rows that all threads copy at once
  static_assert(2 * rows <= threads, "one term per thread");
  const Element* q;
  const Element* d_o;
  const float* term;
  unsigned thread;

  __device__ __forceinline__ QueryCopy(const KeyLevel& level, const HeadQueries& from,
                                       unsigned thread_of_copy)
      : thread(thread_of_copy) {
    q = from.q + (row() * level.q.stride + chunk() * 8);
    d_o = from.d_o + (row() * level.d_o.stride + chunk() * 8);
    term = (thread < rows ? from.lse2 : from.delta) + thread % rows;
  }
  __device__ __forceinline__ int row() const { return static_cast<int>(thread / kChunks); }
  __device__ __forceinline__ int chunk() const { return static_cast<int>(thread % kChunks); }

  /// Starts the copies of queries first .. first + rows - 1.
  __device__ __forceinline__ void operator()(const KeyLevel& level, int first, unsigned stage) const {
    const unsigned to = stage + tile_offset<D>(row(), chunk());
    const Element* from_q = q + first * level.q.stride;
    const Element* from_d_o = d_o + first * level.d_o.stride;
    const int left = level.queries - first;
    SIMT_UNROLL
    for (int i = 0; i < rows; i += kRows) {
      if (kRows > rows && row() >= rows) break;
      const unsigned at = rows_on<D>(to, i), bytes = i + row() < left ? 16 : 0;
      if constexpr (through_l1) {
        ptx::cp_async16_ca(at, from_q, bytes);
        ptx::cp_async16_ca(at + Stage::kTile, from_d_o, bytes);
      } else {
        ptx::cp_async16(at, from_q, bytes);
        ptx::cp_async16(at + Stage::kTile, from_d_o, bytes);
      }
      from_q += kRows * level.q.stride;
      from_d_o += kRows * level.d_o.stride;
    }
    if (2 * rows == threads || thread < 2 * rows)
      ptx::cp_async4(stage + Stage::kTerms + thread * 4, term + first,
                     static_cast<int>(thread % rows) < left ? 4 : 0);
  }
};

/// 16 M keys of a warp and their sums. Sums are in the result layout: lane 4 g + t holds of key g (of key
/// g + 8) at [c][0], [c][1] (at [c][2], [c][3]) the elements 8 c + 2 t and the next.
template <int D, int M>
struct WarpKeys {
  std::uint32_t k[M][D / 16][4], v[M][D / 16][4];
  float k_sum[M][D / 8][4], v_sum[M][D / 8][4];

  /// Loads keys first .. first + 16 M - 1 of a head, zeros for those past the end.
  __device__ __forceinline__ void load(const KeyLevel& level, int head, int first, int lane) {
    const Element* const k_rows = level.k.head(head);
    const Element* const v_rows = level.v.head(head);
    SIMT_UNROLL
    for (int m = 0; m < M; ++m) {
      const int row = first + 16 * m, left = level.keys - row, rows = left < 0 ? 0 : left;
      const std::int64_t begin = rows > 0 ? row : 0;
      load_left<D>(k[m], k_rows + begin * level.k.stride, level.k.stride, rows, lane);
      load_left<D>(v[m], v_rows + begin * level.v.stride, level.v.stride, rows, lane);
      SIMT_UNROLL
      for (int c = 0; c < D / 8; ++c) SIMT_UNROLL
      for (int i = 0; i < 4; ++i) k_sum[m][c][i] = v_sum[m][c][i] = 0;
    }
  }

  /// a[m] = left[m] x^T for x 8 rows of a tile: a 16 x 8 result. Chunk lane / 8 of row lane % 8 is at
  /// `at` + `further`: the latter a constant multiple of 128, which ldmatrix adds by itself.
  static __device__ __forceinline__ void times_rows(float (&a)[M][4],
                                                    const std::uint32_t (&left)[M][D / 16][4], unsigned at,
                                                    unsigned further) {
    SIMT_UNROLL
    for (int m = 0; m < M; ++m) SIMT_UNROLL
    for (int i = 0; i < 4; ++i) a[m][i] = 0;
    SIMT_UNROLL
    for (int j = 0; j < D / 16; j += 2) {
      std::uint32_t r[4];
      ptx::ldmatrix_x4(r, chunk_further(at, 2 * j) + further);
      SIMT_UNROLL
      for (int m = 0; m < M; ++m) {
        ptx::mma_m16n8k16_bf16(a[m], left[m][j], r[0], r[1]);
        ptx::mma_m16n8k16_bf16(a[m], left[m][j + 1], r[2], r[3]);
      }
    }
  }

  /// sum[m] += left[m] x for x 16 rows of a tile. Chunk lane / 16 of row lane % 16 is at `at` + `further`. In
  /// causal attention row i of left[m] meets the columns from diagonal + 16 m + i on.
  template <bool causal>
  static __device__ __forceinline__ void add_times_tile(float (&sum)[M][D / 8][4],
                                                        const std::uint32_t (&left)[M][4], unsigned at,
                                                        unsigned further, int diagonal, int lane) {
    SIMT_UNROLL
    for (int c = 0; c < D / 8; c += 2) {
      std::uint32_t r[4];
      ptx::ldmatrix_x4_trans(r, chunk_further(at, c) + further);
      SIMT_UNROLL
      for (int m = 0; m < M; ++m) {
        if (causal && diagonal + 16 * m + 15 > 0) {
          add_met_products<false>(sum[m][c], left[m], r[0], r[1], diagonal + 16 * m, lane);
          add_met_products<false>(sum[m][c + 1], left[m], r[2], r[3], diagonal + 16 * m, lane);
          continue;
        }
        ptx::mma_m16n8k16_bf16(sum[m][c], left[m], r[0], r[1]);
        ptx::mma_m16n8k16_bf16(sum[m][c + 1], left[m], r[2], r[3]);
      }
    }
  }

  /// Adds the contributions of the queries 16 u .. 16 u + 15 of a stage; `terms` are the stage's LSE and
  /// delta. In causal attention key i meets the queries of these from diagonal + i on.
  template <int rows, bool causal = false>
  __device__ __forceinline__ void add(float base2_scale, unsigned stage, const float* terms, int u, int lane,
                                      int diagonal = 0) {
    constexpr unsigned kTile = QueryStage<D, rows>::kTile, kHalf = 16 * D;  // bytes
    const unsigned piece = stage + static_cast<unsigned>(u) * 2 * kHalf;
    const unsigned as_rows = piece + tile_offset<D>(lane % 8, lane / 8);
    std::uint32_t p[M][4], ds[M][4];
    SIMT_UNROLL
    for (int h = 0; h < 2; ++h) {  // 8 queries at a time: fewer registers
      float s[M][4], dp[M][4];
      times_rows(s, k, as_rows, h * kHalf);
      times_rows(dp, v, as_rows, kTile + h * kHalf);
      const float* const at = terms + u * 16 + h * 8 + lane % 4 * 2;
      const float2 lse2 = *reinterpret_cast<const float2*>(at);
      const float2 delta = *reinterpret_cast<const float2*>(at + rows);
      SIMT_UNROLL
      for (int m = 0; m < M; ++m) {
        SIMT_UNROLL
        for (int i = 0; i < 4; ++i) {
          const float log_sum = i % 2 == 0 ? lse2.x : lse2.y;
          s[m][i] = ptx::exp2_approx(fmaf(s[m][i], base2_scale, -log_sum));
          dp[m][i] = s[m][i] * (dp[m][i] - (i % 2 == 0 ? delta.x : delta.y));
        }
        if (causal && diagonal + 16 * m + 15 > 0) {
          leave_out<false>(s[m], 0.0f, h, diagonal + 16 * m, lane);
          leave_out<false>(dp[m], 0.0f, h, diagonal + 16 * m, lane);
        }
        SIMT_UNROLL
        for (int r = 0; r < 2; ++r) {
          p[m][2 * h + r] = pack_bf16(s[m][2 * r], s[m][2 * r + 1]);
          ds[m][2 * h + r] = pack_bf16(dp[m][2 * r], dp[m][2 * r + 1]);
        }
      }
    }
    const unsigned as_columns = piece + tile_offset<D>(lane % 16, lane / 16);
    add_times_tile<causal>(k_sum, ds, as_columns, 0, diagonal,
                           lane);  // in this order nothing is spilled at D = 64
    add_times_tile<causal>(v_sum, p, as_columns, kTile, diagonal, lane);
  }

  /// Registers of sums per lane, and calls visit(register, sum) for each.
  static constexpr int kSums = M * D;
  template <class Visit>
  __device__ __forceinline__ void for_sums(Visit visit) {
    SIMT_UNROLL
    for (int m = 0; m < M; ++m) SIMT_UNROLL
    for (int c = 0; c < D / 8; ++c) SIMT_UNROLL
    for (int i = 0; i < 4; ++i) {
      visit((m * (D / 8) + c) * 4 + i, k_sum[m][c][i]);
      visit((m * (D / 8) + c) * 4 + i + kSums / 2, v_sum[m][c][i]);
    }
  }

  /// Adds up the sums of `groups` groups of `warps` warps each, which hold the same keys, into the first
  /// group: in order of the groups, through shared memory ((groups - 1) warps kSums floats per lane). By all
  /// threads of the block, whose rings are done with.
  __device__ __forceinline__ void add_groups(unsigned char* memory, int groups, int warps, int warp,
                                             int lane) {
    float* const floats = reinterpret_cast<float*>(memory) + lane;
    __syncthreads();
    if (warp >= warps) for_sums([&](int i, float sum) { floats[((warp - warps) * kSums + i) * 32] = sum; });
    __syncthreads();
    if (warp >= warps) return;
    for (int g = 1; g < groups; ++g)
      for_sums([&](int i, float& sum) { sum += floats[(((g - 1) * warps + warp) * kSums + i) * 32]; });
  }

  /// Writes the gradients of keys first on, or if `partial` is given their sums: [2][keys_of_block][D], where
  /// these keys begin at row `row`.
  __device__ __forceinline__ void finish(const KeyLevel& level, int head, int first, float* partial,
                                         int keys_of_block, int row, int lane) const {
    SIMT_UNROLL
    for (int m = 0; m < M; ++m) SIMT_UNROLL
    for (int r = 0; r < 2; ++r) {
      const int key = 16 * m + 8 * r + lane / 4, column = lane % 4 * 2;
      const auto of_k = [&](int c) { return k_sum[m][c] + 2 * r; };
      const auto of_v = [&](int c) { return v_sum[m][c] + 2 * r; };
      if (partial) {
        float* const to = partial + ((row + key) * D + column);
        SIMT_UNROLL
        for (int c = 0; c < D / 8; ++c) {
          *reinterpret_cast<float2*>(to + 8 * c) = make_float2(of_k(c)[0], of_k(c)[1]);
          *reinterpret_cast<float2*>(to + keys_of_block * D + 8 * c) = make_float2(of_v(c)[0], of_v(c)[1]);
        }
      } else if (first + key < level.keys) {
        SIMT_UNROLL
        for (int h = 0; h < 2; ++h) {  // in halves, so that nothing is spilled at D = 64
          const auto half = [&](auto of) { return [of, h](int c) { return of(h * (D / 16) + c); }; };
          level.put<D / 16>(false, head, first + key, column + h * (D / 2), half(of_k));
          level.put<D / 16>(true, head, first + key, column + h * (D / 2), half(of_v));
        }
      }
    }
  }
};

/// Partial sums: slot by slot [2][keys_of_block][D], and which slots belong together. Either as a work list
/// says, or `pieces` slots for each of `blocks` blocks.
struct PartialSums {
  float* sums = nullptr;              // [heads, slots][2][keys_of_block][D]
  const SplitBlock* split = nullptr;  // [heads, slots]
  const std::int32_t* count = nullptr;
  std::int64_t slots = 0;
  int keys_of_block = 0, pieces = 0;

  __device__ __forceinline__ float* slot(int head, std::int64_t index, int d) const {
    return sums + (head * slots + index) * 2 * keys_of_block * d;
  }
};

/// Turns partial sums into gradients.
void add_partial_sums(Context& ctx, const KeyLevel& level, std::int64_t heads, const PartialSums& partial);

}  // namespace llsa::kernels::cuda

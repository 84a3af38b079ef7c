// Attention forward for any shape and dtype: the plain kernel.
//
//     s_j = q . k_j log2(e)/sqrt(D) + log2 w_j;   O = sum_j 2^(s_j - m) v_j / sum_j 2^(s_j - m);
//     LSE = ln 2 (m + log2 sum_j 2^(s_j - m)),   m the largest s_j so far (online softmax)
//
// In causal attention the list of a warp ends with the last key that one of its queries sees, and each query
// leaves out the keys that it does not see.
//
// Tiling: a warp has up to 4 queries of one query block, which share their list. It takes 32 entries at a
// time: a lane per entry for the scores, then a lane per d for the sums. Nothing larger than a tile is
// stored. FLOPs: 4 D per pair, on the scalar units in f32 or f64, and two exponentials, one of them for the
// rescaling. Bytes: every K and V row of the list once per 4 queries, from L1/L2. Bound by L1 and shared
// memory, which are one unit: for 4 multiply-adds of a warp, the scores take a load from 32 rows (32 sectors)
// and 4 reads of query elements that all lanes share; the sums take a coalesced load, 4 such reads and two
// shuffles.
#include "kernels/cuda/llsa/plain/plain.cuh"

namespace llsa::kernels::cuda {
namespace {

enum : int { kQuery, kSum, kMatrices };

template <class T, class A, bool causal>
__global__ void attend(AttendedSet<T> set, RowTiles tiles, HeadRows<T> o, A* lse) {
  SIMT_DYNAMIC_SHARED(memory);
  const std::int64_t tile = tile_of_warp(), head = blockIdx.y;
  const int rows = tile < tiles.per_head ? tiles.rows(tile) : 0;
  if (rows == 0) return;  // whole warps leave; no barrier of the block follows
  const std::int64_t first = tiles.first(tile);
  const int lane = lane_of_thread(), d = set.d;
  const WarpMemory<A> warp(memory, kMatrices, 1, d);
  warp.load(kQuery, set.q.head(head) + first * set.q.stride, set.q.stride, rows, kLog2e<A> / std::sqrt(A(d)));
  warp.clear(kSum);
  __syncwarp();

  const std::int64_t seen = causal ? set.seen_by(first) : 0;
  const auto sees = [&](int r, std::int64_t token) { return !causal || token < seen + r; };
  A top[kRows], sum[kRows];
  for (int r = 0; r < kRows; ++r) {
    top[r] = kLowest<A>;
    sum[r] = 0;
  }
  for (int l = 0; l <= set.levels && set.attends(l); ++l) {
    const T* const k = set.k_head(l, head);
    const T* const v = set.v_head(l, head);
    const std::int64_t k_stride = set.k_stride(l), v_stride = set.v_stride(l);
    const std::int32_t* const picks = l < set.levels ? set.picks_above(l, head, first) : nullptr;
    const std::int64_t length = causal ? seen + rows - 1 : list_length(set, l);
    for (std::int64_t p0 = 0; p0 < length; p0 += 32) {
      const std::int64_t token = list_token(set, l, picks, p0 + lane);
      const unsigned present = __ballot_sync(kAllLanes, token >= 0);
      if (present == 0) continue;
      A s[kRows] = {};
      if (token >= 0) {
        warp.dots(kQuery, k + token * k_stride, s);
        const A bias = set.template bias<A>(l, token);
        SIMT_UNROLL
        for (int r = 0; r < kRows; ++r) s[r] += bias;
      }
      A shrink[kRows];
      SIMT_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const bool there = token >= 0 && sees(r, token);
        const A highest = warp_max(there && s[r] > top[r] ? s[r] : top[r]);
        shrink[r] = std::exp2(top[r] - highest);
        top[r] = highest;
        const A p = there ? std::exp2(s[r] - highest) : A(0);
        warp.products(0)[lane * kRows + r] = p;
        sum[r] = sum[r] * shrink[r] + p;
      }
      __syncwarp();
      // Lane i has token i of the list; every lane needs all of them, for its own d.
      for (int j0 = 0; j0 < d; j0 += 32) {
        const int j = j0 + lane;
        A o_row[kRows];
        if (j < d)
          for (int r = 0; r < kRows; ++r) o_row[r] = warp.row(kSum, r)[j] * shrink[r];
        for (int i = 0; i < 32; ++i) {
          if (!(present >> i & 1)) continue;
          const long long from = __shfl_sync(kAllLanes, static_cast<long long>(token), i);
          if (j >= d) continue;
          const A value = static_cast<A>(v[from * v_stride + j]);
          SIMT_UNROLL
          for (int r = 0; r < kRows; ++r)
            if (sees(r, from)) o_row[r] += warp.products(0)[i * kRows + r] * value;
        }
        if (j < d)
          for (int r = 0; r < kRows; ++r) warp.row(kSum, r)[j] = o_row[r];
      }
      __syncwarp();
    }
  }

  T* const to = o.head(head) + first * o.stride;
  SIMT_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const A total = warp_sum(sum[r]);
    if (r >= rows) continue;
    for (int j = lane; j < d; j += 32) to[r * o.stride + j] = static_cast<T>(warp.row(kSum, r)[j] / total);
    if (lane == 0) lse[head * set.queries + first + r] = (top[r] + std::log2(total)) * kLn2<A>;
  }
}

}  // namespace

void attend_plain(Context& ctx, const LlsaState& args, const Tensor& o, const Tensor& lse) {
  visit_device(args.q.dtype(), "llsa_attention", [&]<class T>() {
    using A = accumulator_t<T>;
    const AttendedSet<T> set(args);
    const RowTiles tiles(set.queries, set.levels > 0 ? set.block : kRows);
    launch_tiles(ctx, set.causal ? attend<T, A, true> : attend<T, A, false>, tiles.per_head,
                 o.size(0) * o.size(1), WarpMemory<A>::bytes(kMatrices, 1, set.d), set, tiles, HeadRows<T>(o),
                 device_data<A>(lse));
  });
}

}  // namespace llsa::kernels::cuda

// Attention backward for any shape and dtype: the plain kernels.
//
//     P = 2^(q.k log2(e)/sqrt(D) + log2 w - LSE/ln 2),  dP = dO.v,  dS = P (dP - delta),  delta = sum(O dO)
//
//     queries     dQ = sum_k dS k / sqrt(D): a warp per 4 queries of a block, over their list as in the
//                 forward
//     keys        dK = sum_q dS q / sqrt(D), dV = sum_q P dO: a warp per 4 keys of a block, over the queries
//                 that the transposed index lists for the block; at the coarsest level over all queries
//
// In causal attention the lists of queries end, and those of keys begin, at the diagonal.
//
// query_terms (attention.cu) makes delta and the LSE in base 2. Levels go from the coarsest enriched one
// down, a launch each, and each passes its gradients on. With G_l[i] the gradient that reaches each fine
// token below token i of level l,
//
//     G_l[i] = dK^(l)[i] / c_l[i] + G_{l+1}[i / B] in f32 (f64),   dK = G_0 with c_0 = 1
//
// One warp writes each element, in a fixed order. FLOPs: 6 D per pair by query and 8 D by key (scores and dP
// twice), and an exponential each. Bytes and bounds as in the forward, with loads from 32 rows for scores and
// for dP. A key block that many queries pick is one long list for its warps.
#include "kernels/cuda/llsa/llsa.h"
#include "kernels/cuda/llsa/plain/plain.cuh"

namespace llsa::kernels::cuda {
namespace {

enum : int { kLeft, kRight, kLeftSum, kRightSum };

/// products(0), products(1): [entry][row]. Row r of matrix `to` += sum over the present entries i that it
/// meets of products(which)[i][r] x[entry i]. meets(r, entry) says whether they meet.
template <class T, class A, class Meets>
__device__ void add_products(const WarpMemory<A>& warp, int to, int which, unsigned present,
                             std::int64_t entry, const T* x, std::int64_t stride, Meets meets) {
  const int lane = lane_of_thread();
  for (int j0 = 0; j0 < warp.d; j0 += 32) {
    const int j = j0 + lane;
    A sum[kRows];
    if (j < warp.d)
      for (int r = 0; r < kRows; ++r) sum[r] = warp.row(to, r)[j];
    for (int i = 0; i < 32; ++i) {
      if (!(present >> i & 1)) continue;
      const long long from = __shfl_sync(kAllLanes, static_cast<long long>(entry), i);
      if (j >= warp.d) continue;
      const A value = static_cast<A>(x[from * stride + j]);
      SIMT_UNROLL
      for (int r = 0; r < kRows; ++r)
        if (meets(r, from)) sum[r] += warp.products(which)[i * kRows + r] * value;
    }
    if (j < warp.d)
      for (int r = 0; r < kRows; ++r) warp.row(to, r)[j] = sum[r];
  }
}

template <class T, class A, bool causal>
__global__ void queries(AttendedSet<T> set, RowTiles tiles, HeadRows<const T> d_o, const A* lse2,
                        const A* delta, T* dq) {
  SIMT_DYNAMIC_SHARED(memory);
  const std::int64_t tile = tile_of_warp(), head = blockIdx.y;
  const int rows = tile < tiles.per_head ? tiles.rows(tile) : 0;
  if (rows == 0) return;  // whole warps leave; no barrier of the block follows
  const std::int64_t first = tiles.first(tile);
  const int lane = lane_of_thread(), d = set.d;
  const A scale = A(1) / std::sqrt(A(d));
  const WarpMemory<A> warp(memory, 3, 1, d);
  warp.load(kLeft, set.q.head(head) + first * set.q.stride, set.q.stride, rows, kLog2e<A> * scale);
  warp.load(kRight, d_o.head(head) + first * d_o.stride, d_o.stride, rows, scale);
  warp.clear(kLeftSum);
  const std::int64_t seen = causal ? set.seen_by(first) : 0;
  const auto sees = [&](int r, std::int64_t key) { return !causal || key < seen + r; };
  A log_sum[kRows], slope[kRows];
  for (int r = 0; r < kRows; ++r) {
    const std::int64_t at = head * set.queries + first + (r < rows ? r : 0);
    log_sum[r] = lse2[at];
    slope[r] = delta[at] * scale;
  }
  __syncwarp();

  for (int l = 0; l <= set.levels && set.attends(l); ++l) {
    const T* const k = set.k_head(l, head);
    const T* const v = set.v_head(l, head);
    const std::int32_t* const picks = l < set.levels ? set.picks_above(l, head, first) : nullptr;
    const std::int64_t length = causal ? seen + rows - 1 : list_length(set, l);
    for (std::int64_t p0 = 0; p0 < length; p0 += 32) {
      const std::int64_t token = list_token(set, l, picks, p0 + lane);
      const unsigned present = __ballot_sync(kAllLanes, token >= 0);
      if (present == 0) continue;
      if (token >= 0) {
        A s[kRows], dp[kRows];
        warp.dots(kLeft, k + token * set.k_stride(l), s);
        warp.dots(kRight, v + token * set.v_stride(l), dp);
        const A bias = set.template bias<A>(l, token);
        SIMT_UNROLL
        for (int r = 0; r < kRows; ++r)
          warp.products(0)[lane * kRows + r] = std::exp2(s[r] + (bias - log_sum[r])) * (dp[r] - slope[r]);
      }
      __syncwarp();
      add_products(warp, kLeftSum, 0, present, token, k, set.k_stride(l), sees);
      __syncwarp();
    }
  }
  for (int r = 0; r < rows; ++r)
    for (int j = lane; j < d; j += 32)
      dq[(head * set.queries + first + r) * d + j] = static_cast<T>(warp.row(kLeftSum, r)[j]);
}

/// The queries that attend to the keys of block j of a level: its list, or all queries where offset is null.
struct QueryLists {
  const std::int32_t* offset = nullptr;  // [heads, blocks + 1]
  const std::int32_t* node = nullptr;    // [heads, entries]
  std::int64_t blocks = 0, entries = 0;
  std::int64_t span = 0;  // fine queries under a node
};

template <class T, class A, class Out, bool causal>
__global__ void keys(AttendedSet<T> set, int level, RowTiles tiles, QueryLists lists, HeadRows<const T> d_o,
                     const A* lse2, const A* delta, const A* above_k, const A* above_v,
                     std::int64_t above_count, Out* dk, Out* dv) {
  SIMT_DYNAMIC_SHARED(memory);
  const std::int64_t tile = tile_of_warp(), head = blockIdx.y;
  const int rows = tile < tiles.per_head ? tiles.rows(tile) : 0;
  if (rows == 0) return;  // whole warps leave; no barrier of the block follows
  const std::int64_t first = tiles.first(tile), n = set.queries;
  const int lane = lane_of_thread(), d = set.d;
  const A scale = A(1) / std::sqrt(A(d));
  const WarpMemory<A> warp(memory, 4, 2, d);
  warp.load(kLeft, set.k_head(level, head) + first * set.k_stride(level), set.k_stride(level), rows,
            kLog2e<A> * scale);
  warp.load(kRight, set.v_head(level, head) + first * set.v_stride(level), set.v_stride(level), rows, A(1));
  warp.clear(kLeftSum);
  warp.clear(kRightSum);
  A bias[kRows];
  for (int r = 0; r < kRows; ++r) bias[r] = set.template bias<A>(level, first + (r < rows ? r : 0));
  __syncwarp();

  const T* const q = set.q.head(head);
  const T* const g = d_o.head(head);
  std::int64_t length = n;
  const std::int32_t* nodes = nullptr;
  if (lists.offset) {
    const std::int32_t* const offset = lists.offset + head * (lists.blocks + 1) + first / tiles.block;
    nodes = lists.node + head * lists.entries + offset[0];
    length = (offset[1] - offset[0]) * lists.span;
  }
  const auto seen = [&](int r, std::int64_t query) { return !causal || first + r < set.seen_by(query); };
  const std::int64_t begin = causal && first >= set.seen_by(0) ? first - set.seen_by(0) + 1 : 0;
  for (std::int64_t p0 = begin / 32 * 32; p0 < length; p0 += 32) {
    const std::int64_t p = p0 + lane;
    std::int64_t query = p;
    if (nodes && p < length) query = nodes[p / lists.span] * lists.span + p % lists.span;
    if (p >= length || query >= n) query = -1;
    const unsigned present = __ballot_sync(kAllLanes, query >= 0);
    if (present == 0) continue;
    if (query >= 0) {
      A s[kRows], dp[kRows];
      warp.dots(kLeft, q + query * set.q.stride, s);
      warp.dots(kRight, g + query * d_o.stride, dp);
      const A log_sum = lse2[head * n + query], slope = delta[head * n + query];
      SIMT_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const A weight = std::exp2(s[r] + (bias[r] - log_sum));
        warp.products(0)[lane * kRows + r] = weight * (dp[r] - slope) * scale;
        warp.products(1)[lane * kRows + r] = weight;
      }
    }
    __syncwarp();
    add_products(warp, kLeftSum, 0, present, query, q, set.q.stride, seen);
    add_products(warp, kRightSum, 1, present, query, g, d_o.stride, seen);
    __syncwarp();
  }

  for (int r = 0; r < rows; ++r) {
    const std::int64_t token = first + r, at = (head * set.level[level].count + token) * d;
    const A covered = static_cast<A>(set.covered(level, token));
    const std::int64_t above = (head * above_count + token / set.block) * d;
    for (int j = lane; j < d; j += 32) {
      const A of_k = warp.row(kLeftSum, r)[j] / covered, of_v = warp.row(kRightSum, r)[j] / covered;
      dk[at + j] = static_cast<Out>(above_k ? of_k + above_k[above + j] : of_k);
      dv[at + j] = static_cast<Out>(above_v ? of_v + above_v[above + j] : of_v);
    }
  }
}

}  // namespace

void queries_backward_plain(Context& ctx, const LlsaState& args, const Tensor& d_o, const QueryTerms& terms,
                            const Tensor& dq) {
  visit_device(args.q.dtype(), "llsa_attention_backward", [&]<class T>() {
    using A = accumulator_t<T>;
    const AttendedSet<T> set(args);
    const RowTiles tiles(set.queries, set.levels > 0 ? set.block : kRows);
    launch_tiles(ctx, set.causal ? queries<T, A, true> : queries<T, A, false>, tiles.per_head,
                 args.q.size(0) * args.q.size(1), WarpMemory<A>::bytes(3, 1, set.d), set, tiles,
                 HeadRows<const T>(d_o), device_data<const A>(terms.lse2), device_data<const A>(terms.delta),
                 device_data<T>(dq));
  });
}

void keys_backward_plain(Context& ctx, const LlsaState& args, const Tensor& d_o, const QueryTerms& terms,
                         const Tensor& dk, const Tensor& dv) {
  visit_device(args.q.dtype(), "llsa_attention_backward", [&]<class T>() {
    using A = accumulator_t<T>;
    const AttendedSet<T> set(args);
    const std::int64_t b = args.q.size(0), h = args.q.size(1);
    const std::vector<IndexTranspose> by_key = transposed_levels(ctx, args);

    Tensor above_k, above_v;  // G_{l+1}
    for (int l = set.enriched; l >= 0; --l) {
      const std::int64_t count = set.level[l].count;
      QueryLists lists;
      if (l < set.levels) {
        const IndexTranspose& above = by_key[static_cast<std::size_t>(l)];
        lists = {above.offset.template data<std::int32_t>(), above.query.template data<std::int32_t>(),
                 set.level[l + 1].count, above.query.size(2), set.level[l + 1].span};
      }
      const RowTiles tiles(count, l < set.levels ? set.block : kRows);
      const std::int64_t above_count = above_k.defined() ? above_k.size(2) : 0;
      const auto run = [&](auto* to_k, auto* to_v) {
        using Out = std::remove_pointer_t<decltype(to_k)>;
        launch_tiles(ctx, set.causal ? keys<T, A, Out, true> : keys<T, A, Out, false>, tiles.per_head, b * h,
                     WarpMemory<A>::bytes(4, 2, set.d), set, l, tiles, lists, HeadRows<const T>(d_o),
                     device_data<const A>(terms.lse2), device_data<const A>(terms.delta),
                     device_data<const A>(above_k), device_data<const A>(above_v), above_count, to_k, to_v);
      };
      if (l == 0) {
        run(device_data<T>(dk), device_data<T>(dv));
      } else {
        const Tensor gk = ctx.empty(Shape{b, h, count, set.d}, dtype_of<A>::value), gv = ctx.empty_like(gk);
        run(device_data<A>(gk), device_data<A>(gv));
        above_k = gk;
        above_v = gv;
      }
    }
  });
}

}  // namespace llsa::kernels::cuda

// From tensors to tiles: head views, dtype of accumulation, and the loops over query and key blocks that full
// attention and LLSA share. Work is cut by shapes only and handed out by the pool's counter; every output row
// is written by one chunk, so results are the same for any number of threads.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "../../core/context.h"
#include "copy.h"
#include "tile_attention.h"

namespace llsa::kernels::cpu {

/// A tensor [b,H,N,D] with unit stride in D; heads are numbered over (b, H).
template <class A>
struct Heads {
  A* data = nullptr;
  std::int64_t batch = 0, heads = 0, tokens = 0, d = 0;
  std::int64_t batch_stride = 0, head_stride = 0, stride = 0;

  Heads() = default;
  explicit Heads(const Tensor& x)
      : data(x.data<A>()),
        batch(x.size(0)),
        heads(x.size(1)),
        tokens(x.size(2)),
        d(x.size(3)),
        batch_stride(x.stride(0)),
        head_stride(x.stride(1)),
        stride(x.stride(2)) {}

  std::int64_t count() const { return batch * heads; }
  A* row(std::int64_t head, std::int64_t token) const {
    return data + head / heads * batch_stride + head % heads * head_stride + token * stride;
  }
};

/// The tensor in its dtype of accumulation: bf16 is converted to f32, others are passed through.
inline Tensor accumulable(Context& ctx, const Tensor& x) {
  if (x.dtype() != DType::bf16) return x;
  Tensor y = ctx.empty(x.shape(), DType::f32);
  copy(ctx, x, y);
  return y;
}

/// An output to accumulate in: the tensor itself, or an f32 stand-in that finish() rounds into it.
class Output {
 public:
  Output(Context& ctx, const Tensor& to) : to_(to), work_(to) {
    if (to.dtype() == DType::bf16) work_ = ctx.empty(to.shape(), DType::f32);
  }
  const Tensor& tensor() const { return work_; }
  void finish(Context& ctx) const {
    if (to_.dtype() == DType::bf16) copy(ctx, work_, to_);
  }

 private:
  Tensor to_, work_;
};

/// From this many heads on, the backward pass takes each head as one piece of work and collects dK and dV
/// while it goes through the queries (5 products per pair); with fewer, dK and dV are computed key by key in
/// a second pass (7 products, as many pieces of work as there are blocks). Fixed, so that results do not
/// depend on the number of threads.
constexpr std::int64_t kWholeHeads = 8;

/// How many blocks make one piece of work: about 2^16 pairs.
inline std::int64_t blocks_per_chunk(std::int64_t pairs_per_block) {
  return std::clamp<std::int64_t>(65536 / std::max<std::int64_t>(pairs_per_block, 1), 1, 64);
}

/// Calls body(head, first_block, last_block) for all blocks of all heads, in parallel.
template <class Body>
void for_block_ranges(Context& ctx, std::int64_t heads, std::int64_t blocks, std::int64_t per_chunk,
                      Body body) {
  const std::int64_t chunks = (blocks + per_chunk - 1) / per_chunk;
  ctx.pool().parallel_for(heads * chunks, [&](std::int64_t chunk) {
    const std::int64_t first = chunk % chunks * per_chunk;
    body(chunk / chunks, first, std::min(first + per_chunk, blocks));
  });
}

/// Cuts [begin, end) into tiles of at most two vectors and calls tile(vectors as integral_constant, begin,
/// count).
template <class A, class Tile>
void for_lane_tiles(std::int64_t begin, std::int64_t end, Tile tile) {
  constexpr std::int64_t kW = tile::kWidth<A>;
  for (; begin < end; begin += 2 * kW) {
    const std::int64_t count = std::min(2 * kW, end - begin);
    if (count <= kW) {
      tile(std::integral_constant<int, 1>{}, begin, count);
    } else {
      tile(std::integral_constant<int, 2>{}, begin, count);
    }
  }
}

/// Forward: rows_of(head, block, rows) appends the keys and values that the queries of a block attend to.
template <class A, class RowsOf>
void attend_blocks(Context& ctx, const Heads<A>& q, std::int64_t block, std::int64_t keys_per_query,
                   const RowsOf& rows_of, const Heads<A>& o, A* lse) {
  const std::int64_t blocks = (q.tokens + block - 1) / block;
  for_block_ranges(ctx, q.count(), blocks, blocks_per_chunk(block * keys_per_query),
                   [&](std::int64_t head, std::int64_t first, std::int64_t last) {
                     tile::Workspace<A> ws(ctx, q.d);
                     for (std::int64_t i = first; i < last; ++i) {
                       ws.rows.clear();
                       rows_of(head, i, ws.rows);
                       for_lane_tiles<A>(i * block, std::min((i + 1) * block, q.tokens),
                                         [&](auto vectors, std::int64_t begin, std::int64_t count) {
                                           tile::attend<vectors.value, A>(
                                               ws, q.row(head, begin), q.stride, count, q.d,
                                               o.row(head, begin), o.stride, lse + head * q.tokens + begin);
                                         });
                     }
                   });
}

/// What the backward pass needs of each query besides q and dO: -log2(e) LSE and -sum(O dO) / sqrt(D),
/// [b,H,N].
template <class A>
struct QueryTerms {
  Tensor score, slope;

  QueryTerms(Context& ctx, const Heads<A>& o, const Heads<A>& d_o, const A* lse)
      : score(ctx.empty({o.count() * o.tokens}, dtype_of<A>::value)),
        slope(ctx.empty({o.count() * o.tokens}, dtype_of<A>::value)) {
    const A scale = A(1) / std::sqrt(A(o.d));
    A* const score_of = score.template data<A>();
    A* const slope_of = slope.template data<A>();
    for_block_ranges(ctx, o.count(), o.tokens, 512,
                     [&](std::int64_t head, std::int64_t first, std::int64_t last) {
                       for (std::int64_t n = first; n < last; ++n) {
                         const A* const a = o.row(head, n);
                         const A* const b = d_o.row(head, n);
                         A sum = A(0);
#pragma omp simd reduction(+ : sum)
                         for (std::int64_t j = 0; j < o.d; ++j) sum += a[j] * b[j];
                         score_of[head * o.tokens + n] = -tile::kLog2e<A> * lse[head * o.tokens + n];
                         slope_of[head * o.tokens + n] = -scale * sum;
                       }
                     });
  }
};

/// Backward over queries [first, last) blocks of a head: dq, and whatever rows_of gives places for.
template <class A, class RowsOf>
void backward_queries(tile::Workspace<A>& ws, const Heads<A>& q, const Heads<A>& d_o,
                      const QueryTerms<A>& terms, std::int64_t block, const RowsOf& rows_of, A* dq,
                      std::int64_t head, std::int64_t first, std::int64_t last) {
  const A* const score = terms.score.template data<A>() + head * q.tokens;
  const A* const slope = terms.slope.template data<A>() + head * q.tokens;
  for (std::int64_t i = first; i < last; ++i) {
    ws.rows.clear();
    rows_of(head, i, ws.rows);
    for_lane_tiles<A>(i * block, std::min((i + 1) * block, q.tokens),
                      [&](auto vectors, std::int64_t begin, std::int64_t count) {
                        A* const to = dq + (head * q.tokens + begin) * q.d;
                        std::fill(to, to + count * q.d, A(0));
                        const tile::Lanes<A> lanes = {q.row(head, begin), q.stride, d_o.row(head, begin),
                                                      d_o.stride,         count,    score + begin,
                                                      slope + begin};
                        tile::attend_backward<vectors.value, A>(ws, lanes, q.d, to, nullptr);
                      });
  }
}

/// The queries [begin, end) of a head as rows of a key-major tile.
template <class A>
tile::Rows<A> query_rows(const Heads<A>& q, const Heads<A>& d_o, const QueryTerms<A>& terms,
                         std::int64_t head, std::int64_t begin, std::int64_t end) {
  tile::Rows<A> rows;
  rows.y = q.row(head, begin);
  rows.ldy = q.stride;
  rows.h = d_o.row(head, begin);
  rows.ldh = d_o.stride;
  rows.rows = end - begin;
  rows.score = terms.score.template data<A>() + head * q.tokens + begin;
  rows.slope = terms.slope.template data<A>() + head * q.tokens + begin;
  return rows;
}

/// Backward over keys [begin, end) of a head, which the queries in ws.rows attend to: adds to dk, dv (rows of
/// D from `begin` on). `weight` holds the keys' base-2 logarithmic weights, or is null.
template <class A>
void backward_keys(tile::Workspace<A>& ws, const Heads<A>& k, const Heads<A>& v, const A* weight,
                   std::int64_t head, std::int64_t begin, std::int64_t end, A* dk, A* dv) {
  const std::int64_t d = k.d;
  for_lane_tiles<A>(begin, end, [&](auto vectors, std::int64_t at, std::int64_t count) {
    const tile::Lanes<A> lanes = {
        k.row(head, at), k.stride, v.row(head, at), v.stride, count, weight ? weight + at : nullptr, nullptr};
    tile::attend_backward<vectors.value, A>(ws, lanes, d, dk + (at - begin) * d, dv + (at - begin) * d);
  });
}

}  // namespace llsa::kernels::cpu

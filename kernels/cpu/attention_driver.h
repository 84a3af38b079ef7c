// From tensors to tiles: head views, the dtype of accumulation, and the loops over query and key blocks that
// full attention and LLSA share. Work is cut into chunks by shapes only, and the pool's counter hands the
// chunks out. One chunk writes each output row, so results are the same for any number of threads.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "../../core/context.h"
#include "../backend/tensors.h"
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
  kCopy.copy(ctx, x, y);
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
    if (to_.dtype() == DType::bf16) kCopy.copy(ctx, work_, to_);
  }

 private:
  Tensor to_, work_;
};

/// From this many heads on, a head is one piece of work of the backward pass, which collects dK and dV while
/// it goes through the queries: 5 products per pair. With fewer heads, a second pass computes dK and dV key
/// by key: 7 products, but as many pieces of work as there are blocks. The number is fixed, so that results
/// do not depend on the number of threads.
constexpr std::int64_t kWholeHeads = 4;

/// How many blocks make one piece of work of about 2^16 pairs.
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

/// Calls tile(begin, count) for tiles of at most Workspace::kOwn tokens.
template <class A, class Tile>
void for_own_tiles(std::int64_t begin, std::int64_t end, Tile tile) {
  constexpr std::int64_t kOwn = tile::Workspace<A>::kOwn;
  for (; begin < end; begin += kOwn) tile(begin, std::min(kOwn, end - begin));
}

/// n rounded up to whole panels.
template <class A>
std::int64_t panel_lanes(std::int64_t n) {
  constexpr std::int64_t kW = tile::kWidth<A>;
  return (n + kW - 1) / kW * kW;
}

/// All tokens of all heads as panels, scaled: [heads][panels][D][W].
template <class A>
Tensor pack_tokens(Context& ctx, const Heads<A>& x, A scale) {
  constexpr std::int64_t kW = tile::kWidth<A>;
  const std::int64_t lanes = panel_lanes<A>(x.tokens);
  Tensor packed = ctx.empty({x.count(), lanes * x.d}, dtype_of<A>::value);
  A* const to = packed.data<A>();
  for_block_ranges(ctx, x.count(), lanes / kW, 32,
                   [&](std::int64_t head, std::int64_t first, std::int64_t last) {
                     for (std::int64_t p = first; p < last; ++p)
                       tile::pack_panel<A>(x.row(head, p * kW), x.stride, std::min(kW, x.tokens - p * kW),
                                           x.d, scale, to + (head * lanes + p * kW) * x.d);
                   });
  return packed;
}

/// The factors of packed tokens: of the operand of the scores, and of the operand of dP.
template <class A>
A score_scale(std::int64_t d) {
  return tile::kLog2e<A> / std::sqrt(A(d));
}
template <class A>
A slope_scale(std::int64_t d) {
  return A(1) / std::sqrt(A(d));
}

/// Tokens of all heads, ready to be the others of a tile: y with partner h (keys and values, or queries and
/// dO).
template <class A>
struct TokenSet {
  Heads<A> y, h;
  Tensor y_panels, h_panels;  ///< or undefined: gathered where needed
  Tensor score, slope;        ///< [panel lanes], or one row for each head; slope may be undefined
  bool terms_per_head = false;
  A* dy = nullptr;  ///< [b,H,N,D], where gradients are collected token by token
  A* dh = nullptr;

  TokenSet() = default;
  TokenSet(const Heads<A>& y_tokens, const Heads<A>& h_tokens) : y(y_tokens), h(h_tokens) {}

  void pack(Context& ctx, bool backward) {
    y_panels = pack_tokens<A>(ctx, y, score_scale<A>(y.d));
    if (backward) h_panels = pack_tokens<A>(ctx, h, slope_scale<A>(y.d));
  }

  /// All tokens of one head.
  tile::Others<A> all(std::int64_t head) const {
    const std::int64_t lanes = panel_lanes<A>(y.tokens), terms_at = terms_per_head ? head * lanes : 0;
    tile::Others<A> t;
    t.y = y.row(head, 0);
    t.ldy = y.stride;
    t.h = h.row(head, 0);
    t.ldh = h.stride;
    t.rows = y.tokens;
    if (y_panels.defined()) t.y_panels = y_panels.template data<A>() + head * lanes * y.d;
    if (h_panels.defined()) t.h_panels = h_panels.template data<A>() + head * lanes * y.d;
    t.score = score.template data<A>() + terms_at;
    if (slope.defined()) t.slope = slope.template data<A>() + terms_at;
    if (dy) t.dy = dy + head * y.tokens * y.d;
    if (dh) t.dh = dh + head * y.tokens * y.d;
    return t;
  }
};

/// The base-2 score terms of n keys: `value` for each, then kNoToken up to the end of the last panel.
template <class A>
Tensor key_scores(Context& ctx, std::int64_t n, A value) {
  Tensor score = ctx.empty({panel_lanes<A>(n)}, dtype_of<A>::value);
  A* const s = score.data<A>();
  std::fill_n(s, n, value);
  std::fill(s + n, s + score.numel(), tile::kNoToken<A>);
  return score;
}

/// Forward: keys_of(head) returns a function (block, workspace) that appends the keys and values that the
/// queries of a block of this head attend to, to the workspace's empty `others`, and may set its diagonal.
template <class A, class KeysOf>
void attend_blocks(Context& ctx, const Heads<A>& q, std::int64_t block, std::int64_t keys_per_query,
                   const KeysOf& keys_of, const Heads<A>& o, A* lse) {
  const std::int64_t blocks = (q.tokens + block - 1) / block;
  for_block_ranges(ctx, q.count(), blocks, blocks_per_chunk(block * keys_per_query),
                   [&](std::int64_t head, std::int64_t first, std::int64_t last) {
                     tile::Workspace<A> ws(ctx, q.d, false);
                     const auto keys = keys_of(head);
                     const A* const x = q.row(head, 0);
                     A* const to = o.row(head, 0);
                     for (std::int64_t i = first; i < last; ++i) {
                       ws.others.clear();
                       keys(i, ws);
                       for_own_tiles<A>(i * block, std::min((i + 1) * block, q.tokens),
                                        [&](std::int64_t begin, std::int64_t count) {
                                          tile::attend<A>(ws, x + begin * q.stride, q.stride, count, q.d,
                                                          to + begin * o.stride, o.stride,
                                                          lse + head * q.tokens + begin);
                                        });
                     }
                   });
}

/// The queries of the backward pass: q with partner dO, scores -log2(e) LSE, slopes -sum(O dO) / sqrt(D).
template <class A>
TokenSet<A> backward_queries(Context& ctx, const Heads<A>& q, const Heads<A>& d_o, const Heads<A>& o,
                             const A* lse) {
  TokenSet<A> set(q, d_o);
  const std::int64_t n = q.tokens, d = q.d, lanes = panel_lanes<A>(n);
  set.terms_per_head = true;
  set.score = ctx.empty({q.count(), lanes}, dtype_of<A>::value);
  set.slope = ctx.empty({q.count(), lanes}, dtype_of<A>::value);
  A* const score = set.score.template data<A>();
  A* const slope = set.slope.template data<A>();
  for_block_ranges(ctx, q.count(), lanes, 512, [&](std::int64_t head, std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      score[head * lanes + i] = i < n ? -tile::kLog2e<A> * lse[head * n + i] : tile::kNoToken<A>;
      slope[head * lanes + i] = A(0);
      if (i >= n) continue;
      const A* const a = o.row(head, 0) + i * o.stride;
      const A* const b = d_o.row(head, 0) + i * d_o.stride;
      A sum = A(0);
#pragma omp simd reduction(+ : sum)
      for (std::int64_t j = 0; j < d; ++j) sum += a[j] * b[j];
      slope[head * lanes + i] = -slope_scale<A>(d) * sum;
    }
  });
  return set;
}

/// Tokens [begin, end) of a head's set as the own tokens of backward tiles against ws.others: adds to dy and
/// dh, whose rows of D elements begin with token `begin`. dh may be null.
template <class A>
void backward_own(tile::Workspace<A>& ws, const tile::Others<A>& set, std::int64_t d, std::int64_t begin,
                  std::int64_t end, A* dy, A* dh) {
  for_own_tiles<A>(begin, end, [&](std::int64_t at, std::int64_t count) {
    const tile::Own<A> own = {set.y + at * set.ldy,
                              set.ldy,
                              set.h + at * set.ldh,
                              set.ldh,
                              count,
                              set.score + at,
                              set.slope ? set.slope + at : nullptr};
    tile::attend_backward<A>(ws, own, d, dy + (at - begin) * d, dh ? dh + (at - begin) * d : nullptr);
  });
}

/// dq of the queries in blocks [first, last) of a head; where the keys have places for their gradients, those
/// are added, too.
template <class A, class KeysOf>
void backward_blocks(tile::Workspace<A>& ws, const TokenSet<A>& queries, std::int64_t block,
                     const KeysOf& keys_of, A* dq, std::int64_t head, std::int64_t first, std::int64_t last) {
  const std::int64_t n = queries.y.tokens, d = queries.y.d;
  const tile::Others<A> set = queries.all(head);
  const auto keys = keys_of(head);
  for (std::int64_t i = first; i < last; ++i) {
    const std::int64_t begin = i * block, end = std::min(begin + block, n);
    A* const to = dq + (head * n + begin) * d;
    std::fill_n(to, (end - begin) * d, A(0));
    ws.others.clear();
    keys(i, ws);
    backward_own<A>(ws, set, d, begin, end, to, nullptr);
  }
}

}  // namespace llsa::kernels::cpu

// Softmax attention of one tile: a block of tokens against any number of other tokens, gathered from
// anywhere.
//
// The tile's own tokens are rows, read element by element. The other tokens lie in the lanes, as panels (see
// tile_gemm.h). Panels were packed once for all tiles; where blocks do not fill whole vectors, they are
// gathered here. The same code runs query-major (own = queries, others = keys) and key-major (the reverse).
// Everything is in base 2: log2(e)/sqrt(D) is multiplied into the panels, and e^s becomes 2^s.
//
// In causal attention an own token meets the others on one side of a diagonal only. The tile on the diagonal
// is computed as a whole, but its maxima, sums and products leave the other side out, so nothing reaches a
// result from there, not even a NaN.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "../../core/context.h"
#include "tile_gemm.h"
#include "vec_math.h"

namespace llsa::kernels::cpu::tile {

template <class A>
constexpr A kLog2e = A(1.44269504088896340736);
template <class A>
constexpr A kLn2 = A(0.69314718055994530942);
/// The score of a lane without a token: its weight 2^kNoToken is negligible beside any other.
template <class A>
constexpr A kNoToken = A(-1e30);

/// 2^x for x < 127.5, 2^-126 below -126; NaN stays NaN. Float: a polynomial within 1e-7; double: the standard
/// library.
LLSA_INLINE Vector<float> exp2(Vector<float> x) {
  // x + magic leaves round(x) + 127, the exponent field of 2^round(x), in the low bits.
  constexpr float kMagic = 12582912.0f + 127.0f;
  using I = Vector<std::int32_t>;
  x = x < -126.0f ? Vector<float>{} - 126.0f : x;
  const Vector<float> shifted = x + kMagic;
  const Vector<float> r = x - (shifted - kMagic);
  const auto power = reinterpret_cast<Vector<float>>(reinterpret_cast<I>(shifted) << 23);
  Vector<float> p = Vector<float>{} + 0.0013276471979f;
  p = p * r + 0.0096755413342f;
  p = p * r + 0.0555071327354f;
  p = p * r + 0.2402211972385f;
  p = p * r + 0.6931469670647f;
  p = p * r + 1.0000000716547f;
  return p * power;
}
LLSA_INLINE Vector<double> exp2(Vector<double> x) {
  for (int i = 0; i < kWidth<double>; ++i) x[i] = std::exp2(x[i]);
  return x;
}

template <class V, int... I>
LLSA_INLINE auto low_half(V x, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(x, x, I...);
}
template <class V, int... I>
LLSA_INLINE auto high_half(V x, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(x, x, (I + static_cast<int>(sizeof...(I)))...);
}

/// Folds a vector to one element: op(low half, high half), and again.
template <class A, int N = kWidth<A>, class V, class Op>
LLSA_INLINE A fold(V x, Op op) {
  if constexpr (N == 2) {
    return op(x[0], x[1]);
  } else {
    using Half = std::make_integer_sequence<int, N / 2>;
    return fold<A, N / 2>(op(low_half(x, Half()), high_half(x, Half())), op);
  }
}

/// Other tokens that a tile meets. Query-major they are keys: y = k, h = v. Key-major they are queries: y =
/// q, h = dO.
template <class A>
struct Others {
  const A* y = nullptr;  ///< [rows, D]
  std::int64_t ldy = 0;
  const A* h = nullptr;  ///< [rows, D]
  std::int64_t ldh = 0;
  std::int64_t rows = 0;
  const A* y_panels = nullptr;  ///< the same tokens as panels, y scaled by log2(e)/sqrt(D), or null
  const A* h_panels = nullptr;  ///< h scaled by 1/sqrt(D); backward only
  const A* score = nullptr;     ///< added to the base-2 scores; kNoToken up to the end of the last panel
  const A* slope = nullptr;     ///< added to dP; null = 0
  A* dy = nullptr;              ///< [rows, D] contiguous: gradients of y and h, where a pass collects them
  A* dh = nullptr;

  /// Tokens [begin, begin + count). Panels are kept only if the part begins at a panel's beginning and ends
  /// at a panel's end or at the last token.
  Others part(std::int64_t begin, std::int64_t count, std::int64_t d) const {
    Others r = *this;
    const std::int64_t end = begin + count;
    if (begin % kWidth<A> != 0 || (end % kWidth<A> != 0 && end != rows)) r.y_panels = r.h_panels = nullptr;
    r.y += begin * ldy;
    r.h += begin * ldh;
    r.rows = count;
    if (r.y_panels) r.y_panels += begin * d;
    if (r.h_panels) r.h_panels += begin * d;
    r.score += begin;
    if (slope) r.slope += begin;
    if (dy) r.dy += begin * d;
    if (dh) r.dh += begin * d;
    return r;
  }
};

/// Which of the other tokens an own token meets: all of them, or those on one side of a diagonal. Own token i
/// meets the others 0 .. at + i - 1 (`before`), or those from at + i on (`after`).
struct Diagonal {
  enum class Side : std::uint8_t { none, before, after };
  Side side = Side::none;
  std::int64_t at = 0;
};

/// Buffers of one thread's tiles.
template <class A>
class Workspace {
 public:
  static constexpr std::int64_t kOwn = 32;         ///< most own tokens of a tile
  static constexpr std::int64_t kElements = 8192;  ///< of a score tile, gaps between its rows not counted
  static constexpr std::int64_t kW = kWidth<A>;
  static constexpr std::int64_t kMostPanels = kElements / (kOwn / 2) / kW;

  Workspace(Context& ctx, std::int64_t d, bool backward)
      : d_(d),
        backward_(backward),
        ctx_(ctx),
        buffer_(ctx.empty({(backward ? 2 : 1) * (kElements + kOwn * kW) + kOwn * (d + kW + 2) + kW},
                          dtype_of<A>::value)) {
    A* at = buffer_.data<A>();
    const auto take = [&at](std::int64_t n) {
      A* p = at;
      at += n;
      return p;
    };
    p = take(kElements + kOwn * kW);
    if (backward) ds = take(kElements + kOwn * kW);
    sum = take(kOwn * d);
    top = take(kOwn * kW);
    row_top = take(kOwn);
    row_sum = take(kOwn);
    zeros = take(kW);
    std::fill_n(zeros, kW, A(0));
  }

  /// Columns of a score tile for this many own tokens. The backward pass has two tiles and keeps both small.
  std::int64_t tile_columns(std::int64_t own) const {
    const std::int64_t most = kElements / (own <= kOwn / 2 ? kOwn / 2 : kOwn);
    return backward_ ? 128 : most;
  }

  /// Lays out the next tile of `others`, from where the last one ended. Returns false at the end; reset()
  /// starts over.
  bool next_tile(std::int64_t own) {
    pieces.clear();
    panels = 0;
    first_ = begin_;
    const std::int64_t limit = tile_columns(own);
    std::int64_t width = 0;  // columns laid out; whole panels unless gathering
    std::int64_t lanes = 0;  // of the gather buffers in use
    while (item_ < others.size() && width < limit) {
      const Others<A>& from = others[item_];
      const bool packed = from.y_panels != nullptr;
      if (packed && width % kW != 0) {
        fill_panel(width, lanes);
        continue;
      }
      const std::int64_t count = std::min(from.rows - begin_, limit - width);
      const Others<A> part = begin_ == 0 && count == from.rows ? from : from.part(begin_, count, d_);
      pieces.push_back({part, width});
      if (packed) {
        for (std::int64_t at = 0; at < count; at += kW)
          add_panel(part.y_panels + at * d_, part.h_panels ? part.h_panels + at * d_ : nullptr,
                    part.score + at, part.slope ? part.slope + at : zeros);
        width += (count + kW - 1) / kW * kW;
      } else {
        gather(part, width, lanes);
      }
      begin_ += count;
      if (begin_ == from.rows) ++item_, begin_ = 0;
    }
    fill_panel(width, lanes);
    stride = width + kW;  // not a power of two: rows fall into different cache sets
    return width > 0;
  }
  void reset() { item_ = 0, begin_ = 0; }

  /// With a diagonal: where it cuts row i of the score tile, counted in the first n columns.
  std::int64_t edge(std::int64_t i, std::int64_t n) const {
    return std::clamp<std::int64_t>(diagonal.at + i - first_, 0, n);
  }

  /// The pieces' y or h rows as operands of add_product.
  const std::vector<RowRange<A>>& ranges(bool y) {
    ranges_.clear();
    for (const Piece& piece : pieces) {
      const Others<A>& t = piece.tokens;
      ranges_.push_back({y ? t.y : t.h, y ? t.ldy : t.ldh, t.rows, piece.column});
    }
    return ranges_;
  }

  struct Piece {
    Others<A> tokens;
    std::int64_t column;
  };

  std::vector<Others<A>> others;  ///< what the tile attends to; the caller fills it
  Diagonal diagonal;              ///< set by the caller; one that cuts needs a single entry of `others`
  std::vector<Piece> pieces;      ///< the parts of `others` in the current score tile
  std::int64_t panels = 0;        ///< in the score tile; their operands, and [W] terms:
  const A *y[kMostPanels], *h[kMostPanels], *score[kMostPanels], *slope[kMostPanels];
  std::int64_t stride = 0;  ///< between rows of the score tile
  A* p = nullptr;           ///< [own][stride] scores, then probabilities
  A* ds = nullptr;          ///< [own][stride]
  A* sum = nullptr;         ///< [own][D]
  A* top = nullptr;         ///< [own][W]
  A* row_top = nullptr;     ///< [own]
  A* row_sum = nullptr;     ///< [own]
  A* zeros = nullptr;       ///< [W]

 private:
  void add_panel(const A* y_panel, const A* h_panel, const A* scores, const A* slopes) {
    y[panels] = y_panel;
    h[panels] = h_panel;
    score[panels] = scores;
    slope[panels++] = slopes;
  }

  /// Packs the tokens of a piece into the columns from `width` on.
  void gather(const Others<A>& piece, std::int64_t& width, std::int64_t& lanes) {
    const std::int64_t most = kElements / (kOwn / 2);
    if (!gather_.defined()) gather_ = ctx_.empty({most * (2 * d_ + 2)}, dtype_of<A>::value);
    A* const ys = gather_.template data<A>();
    A* const hs = ys + most * d_;
    A* const scores = hs + most * d_;
    A* const slopes = scores + most;
    const A scale = A(1) / std::sqrt(A(d_));
    for (std::int64_t done = 0; done < piece.rows;) {
      const std::int64_t lane = lanes % kW, panel = lanes - lane;
      const std::int64_t n = std::min(kW - lane, piece.rows - done);
      if (lane == 0) {
        add_panel(ys + panel * d_, hs + panel * d_, scores + panel, slopes + panel);
        std::fill_n(ys + panel * d_, kW * d_, A(0));
        if (backward_) std::fill_n(hs + panel * d_, kW * d_, A(0));
        std::fill_n(scores + panel, kW, kNoToken<A>);
        std::fill_n(slopes + panel, kW, A(0));
      }
      pack_lanes<A>(piece.y + done * piece.ldy, piece.ldy, n, d_, kLog2e<A> * scale, ys + panel * d_, lane);
      if (backward_)
        pack_lanes<A>(piece.h + done * piece.ldh, piece.ldh, n, d_, scale, hs + panel * d_, lane);
      std::copy_n(piece.score + done, n, scores + lanes);
      if (piece.slope) std::copy_n(piece.slope + done, n, slopes + lanes);
      done += n;
      lanes += n;
      width += n;
    }
  }

  /// Leaves the rest of a gathered panel without tokens.
  void fill_panel(std::int64_t& width, std::int64_t& lanes) const {
    const std::int64_t left = (kW - lanes % kW) % kW;
    lanes += left;
    width += left;
  }

  std::int64_t d_;
  bool backward_;
  Context& ctx_;
  Tensor buffer_, gather_;
  std::size_t item_ = 0;
  std::int64_t begin_ = 0, first_ = 0;
  std::vector<RowRange<A>> ranges_;
};

/// Replaces the scores of rows [0, own) beyond the diagonal, and makes the maxima again.
template <class A>
void leave_out_beyond_diagonal(Workspace<A>& ws, std::int64_t own) {
  using V = Vector<A>;
  constexpr std::int64_t kW = kWidth<A>;
  const std::int64_t columns = ws.stride - kW;
  for (std::int64_t i = 0; i < own; ++i) {
    const std::int64_t edge = ws.edge(i, columns);
    if (edge == columns) continue;
    A* const row = ws.p + i * ws.stride;
    std::fill(row + edge, row + columns, kNoToken<A>);
    V top = V{} + std::numeric_limits<A>::lowest();
    for (std::int64_t c = 0; c < columns; c += kW) {
      const V s = load<V>(row + c);
      top = s > top ? s : top;
    }
    store<V>(ws.top + i * kW, top);
  }
}

/// sum[i, :] += sum over the columns c that row i meets of p[i, c] b[c, :], b being the pieces' y or h.
template <class A>
void add_to_rows(Workspace<A>& ws, const A* p, bool y, std::int64_t d, std::int64_t own, A* sum) {
  const std::vector<RowRange<A>>& b = ws.ranges(y);
  const std::int64_t stride = ws.stride;
  if (ws.diagonal.side == Diagonal::Side::none)
    return add_product<A>(p, stride, 1, b.data(), static_cast<int>(b.size()), d, own, sum, d);

  // First the columns that all rows meet, then row by row the others.
  const auto add = [&](std::int64_t row, std::int64_t rows, std::int64_t begin, std::int64_t end) {
    const RowRange<A> part = {b[0].data + begin * b[0].stride, b[0].stride, end - begin, begin};
    if (begin < end) add_product<A>(p + row * stride, stride, 1, &part, 1, d, rows, sum + row * d, d);
  };
  const bool before = ws.diagonal.side == Diagonal::Side::before;
  const std::int64_t columns = b[0].rows, first = ws.edge(0, columns), last = ws.edge(own - 1, columns);
  before ? add(0, own, 0, first) : add(0, own, last, columns);
  for (std::int64_t i = 0; i < own; ++i) {
    const std::int64_t edge = ws.edge(i, columns);
    before ? add(i, 1, first, edge) : add(i, 1, edge, last);
  }
}

/// to[c, :] += sum over the rows i that meet column c of a piece of p[i, c] b[i, :], b being the own rows.
template <class A>
void add_to_columns(const Workspace<A>& ws, const typename Workspace<A>::Piece& piece, const A* p,
                    const RowRange<A>& b, std::int64_t d, A* to) {
  const std::int64_t columns = piece.tokens.rows;
  const auto add = [&](std::int64_t column, std::int64_t count, std::int64_t row) {
    const RowRange<A> part = {b.data + row * b.stride, b.stride, b.rows - row, row};
    add_product<A>(p + piece.column + column, 1, ws.stride, &part, 1, d, count, to + column * d, d);
  };
  if (ws.diagonal.side == Diagonal::Side::none) return add(0, columns, 0);
  add(0, ws.edge(0, columns), 0);
  for (std::int64_t i = 1; i < b.rows; ++i)  // columns that row i is the first to meet
    add(ws.edge(i - 1, columns), ws.edge(i, columns) - ws.edge(i - 1, columns), i);
}

/// o[i, :] = softmax over ws.others applied to their h, for the own tokens x[i]; lse[i] is natural.
template <class A>
void attend(Workspace<A>& ws, const A* x, std::int64_t ldx, std::int64_t own, std::int64_t d, A* o,
            std::int64_t ldo, A* lse) {
  using V = Vector<A>;
  constexpr std::int64_t kW = kWidth<A>;
  std::fill_n(ws.row_sum, own, A(0));
  std::fill_n(ws.sum, own * d, A(0));
  ws.reset();
  for (bool first = true; ws.next_tile(own); first = false) {
    const std::int64_t stride = ws.stride;
    std::fill_n(ws.top, own * kW, std::numeric_limits<A>::lowest());
    dot_panels<A>(x, ldx, own, ws.y, ws.panels, d, [&](std::int64_t row, std::int64_t panel, auto& acc) {
      constexpr int kGroup = std::extent_v<std::remove_reference_t<decltype(acc)>, 0>;
      constexpr int kPanels = std::extent_v<std::remove_reference_t<decltype(acc)>, 1>;
      A* const to = ws.p + row * stride + panel * kW;
      const A* const* const score = ws.score + panel;
      LLSA_UNROLL for (int m = 0; m < kGroup; ++m) {
        V top = load<V>(ws.top + (row + m) * kW);
        LLSA_UNROLL for (int n = 0; n < kPanels; ++n) {
          const V s = acc[m][n] + load<V>(score[n]);
          top = s > top ? s : top;
          store<V>(to + m * stride + n * kW, s);
        }
        store<V>(ws.top + (row + m) * kW, top);
      }
    });
    if (ws.diagonal.side != Diagonal::Side::none) leave_out_beyond_diagonal(ws, own);
    for (std::int64_t i = 0; i < own; ++i) {
      A top = fold<A>(load<V>(ws.top + i * kW), [](auto a, auto b) { return a > b ? a : b; });
      if (!first) {  // bring the sums so far to the new maximum
        top = ws.row_top[i] > top ? ws.row_top[i] : top;
        const A shrink = exp2(V{} + (ws.row_top[i] - top))[0];
        ws.row_sum[i] *= shrink;
        for (std::int64_t j = 0; j < d; ++j) ws.sum[i * d + j] *= shrink;
      }
      ws.row_top[i] = top;
      V sum = {};
      A* const row = ws.p + i * stride;
      for (std::int64_t c = 0; c < stride - kW; c += kW) {
        const V e = exp2(load<V>(row + c) - top);
        sum += e;
        store<V>(row + c, e);
      }
      ws.row_sum[i] += fold<A>(sum, [](auto a, auto b) { return a + b; });
    }
    add_to_rows<A>(ws, ws.p, false, d, own, ws.sum);
  }
#pragma omp simd
  for (std::int64_t i = 0; i < own; ++i) lse[i] = ws.row_top[i] * kLn2<A> + cpu::log(ws.row_sum[i]);
  for (std::int64_t i = 0; i < own; ++i) {
    const A scale = A(1) / ws.row_sum[i];
#pragma omp simd
    for (std::int64_t j = 0; j < d; ++j) o[i * ldo + j] = ws.sum[i * d + j] * scale;
  }
}

/// The own tokens of a backward tile: x with partner g (queries and dO, or keys and values), and the terms
/// that are added to their base-2 scores and to their dP.
template <class A>
struct Own {
  const A* x = nullptr;
  std::int64_t ldx = 0;
  const A* g = nullptr;
  std::int64_t ldg = 0;
  std::int64_t count = 0;
  const A* score = nullptr;  ///< [count]
  const A* slope = nullptr;  ///< [count] or null = 0
};

/// With P = 2^(x.y log2(e)/sqrt(D) + scores) and dS = P (g.h/sqrt(D) + slopes) over ws.others:
/// adds dS y to sum_x[i, :] and, if sum_g is not null, P h to sum_g[i, :] (leading dimension D both).
/// Others with dy and dh collect dS^T x and P^T g.
template <class A>
void attend_backward(Workspace<A>& ws, const Own<A>& own, std::int64_t d, A* sum_x, A* sum_g) {
  using V = Vector<A>;
  constexpr std::int64_t kW = kWidth<A>;
  const RowRange<A> x_range = {own.x, own.ldx, own.count, 0};
  const RowRange<A> g_range = {own.g, own.ldg, own.count, 0};
  ws.reset();
  while (ws.next_tile(own.count)) {
    const std::int64_t stride = ws.stride;
    dot_panels<A>(own.x, own.ldx, own.count, ws.y, ws.panels, d,
                  [&](std::int64_t row, std::int64_t panel, auto& acc) {
                    constexpr int kGroup = std::extent_v<std::remove_reference_t<decltype(acc)>, 0>;
                    constexpr int kPanels = std::extent_v<std::remove_reference_t<decltype(acc)>, 1>;
                    A* const to = ws.p + row * stride + panel * kW;
                    const A* const* const scores = ws.score + panel;
                    LLSA_UNROLL for (int n = 0; n < kPanels; ++n) {
                      const V score = load<V>(scores[n]);
                      LLSA_UNROLL for (int m = 0; m < kGroup; ++m)
                          store<V>(to + m * stride + n * kW, exp2(acc[m][n] + (score + own.score[row + m])));
                    }
                  });
    dot_panels<A>(own.g, own.ldg, own.count, ws.h, ws.panels, d,
                  [&](std::int64_t row, std::int64_t panel, auto& acc) {
                    constexpr int kGroup = std::extent_v<std::remove_reference_t<decltype(acc)>, 0>;
                    constexpr int kPanels = std::extent_v<std::remove_reference_t<decltype(acc)>, 1>;
                    const std::int64_t at = row * stride + panel * kW;
                    const A* const* const slopes = ws.slope + panel;
                    LLSA_UNROLL for (int n = 0; n < kPanels; ++n) {
                      const V slope = load<V>(slopes[n]);
                      LLSA_UNROLL for (int m = 0; m < kGroup; ++m) {
                        const A own_slope = own.slope ? own.slope[row + m] : A(0);
                        const std::int64_t e = at + m * stride + n * kW;
                        store<V>(ws.ds + e, load<V>(ws.p + e) * (acc[m][n] + (slope + own_slope)));
                      }
                    }
                  });
    for (const auto& piece : ws.pieces) {
      const Others<A>& to = piece.tokens;
      if (!to.dy) continue;
      add_to_columns<A>(ws, piece, ws.ds, x_range, d, to.dy);
      add_to_columns<A>(ws, piece, ws.p, g_range, d, to.dh);
    }
    add_to_rows<A>(ws, ws.ds, true, d, own.count, sum_x);
    if (sum_g) add_to_rows<A>(ws, ws.p, false, d, own.count, sum_g);
  }
}

}  // namespace llsa::kernels::cpu::tile

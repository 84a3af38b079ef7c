// Softmax attention of one tile: up to two vectors of tokens in the lanes, any number of other tokens in the
// rows.
//
// Score tiles are stored transposed, [row][lane]: every lane is one query (or, in the key-major half of the
// backward pass, one key), so maxima and sums over the keys are plain vector operations, and rows can be
// gathered from anywhere because the products read them element by element. Everything runs in base 2:
// log2(e)/sqrt(D) is multiplied into the packed lanes, and e^s becomes 2^s.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "../../core/context.h"
#include "tile_gemm.h"

namespace llsa::kernels::cpu::tile {

template <class A>
constexpr A kLog2e = A(1.44269504088896340736);
template <class A>
constexpr A kLn2 = A(0.69314718055994530942);

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

/// Tokens that a tile meets in its rows. Forward and query-major backward: keys y = k, h = v; key-major
/// backward: queries y = q, h = dO.
template <class A>
struct Rows {
  const A* y = nullptr;  ///< [rows, D]
  std::int64_t ldy = 0;
  const A* h = nullptr;  ///< [rows, D]
  std::int64_t ldh = 0;
  std::int64_t rows = 0;
  const A* score = nullptr;  ///< added to the base-2 score of each row; null = 0
  const A* slope = nullptr;  ///< added to the dP of each row; null = 0
  A* dy = nullptr;  ///< [rows, D] contiguous: gradients of y and h, where a pass collects them by row
  A* dh = nullptr;

  Rows part(std::int64_t begin, std::int64_t count, std::int64_t d) const {
    Rows r = *this;
    r.y += begin * ldy;
    r.h += begin * ldh;
    r.rows = count;
    if (score) r.score += begin;
    if (slope) r.slope += begin;
    if (dy) r.dy += begin * d;
    if (dh) r.dh += begin * d;
    return r;
  }
};

/// Buffers of one thread's tiles.
template <class A>
class Workspace {
 public:
  static constexpr std::int64_t kLanes = 2 * kWidth<A>;
  static constexpr std::int64_t kTileRows =
      512;  // rows of a score tile, for one vector of lanes; half of it for two

  Workspace(Context& ctx, std::int64_t d)
      : buffer_(
            ctx.empty({(6 * kLanes + 4) * d + 2 * kTileRows * kWidth<A> + 8 * kLanes}, dtype_of<A>::value)) {
    A* at = buffer_.data<A>();
    const auto take = [&at](std::int64_t n) {
      A* p = at;
      at += n;
      return p;
    };
    p = take(kTileRows * kWidth<A>);
    ds = take(kTileRows * kWidth<A>);
    xt = take(kLanes * d);
    gt = take(kLanes * d);
    sum_a = take(kLanes * d);
    sum_b = take(kLanes * d);
    lane_a = take(kLanes);
    lane_b = take(kLanes);
  }

  A* p;                            ///< [rows][lanes] scores, then probabilities
  A* ds;                           ///< [rows][lanes]
  A* xt;                           ///< [D][lanes]
  A* gt;                           ///< [D][lanes]
  A* sum_a;                        ///< [lanes][D]
  A* sum_b;                        ///< [lanes][D]
  A* lane_a;                       ///< [lanes]
  A* lane_b;                       ///< [lanes]
  std::vector<Rows<A>> rows;       ///< what the tile attends to, filled by the caller
  std::vector<Rows<A>> pieces;     ///< of them, those in the current score tile
  std::vector<RowRange<A>> range;  ///< one operand of the pieces

 private:
  Tensor buffer_;
};

/// Walks through `rows`, cutting them into tiles.
template <class A>
class TileCursor {
 public:
  /// Fills `pieces` with the next rows, at most `limit`; returns how many there are.
  std::int64_t next(const std::vector<Rows<A>>& rows, std::int64_t limit, std::int64_t d,
                    std::vector<Rows<A>>& pieces) {
    pieces.clear();
    std::int64_t total = 0;
    while (item_ < rows.size() && total < limit) {
      const std::int64_t n = std::min(rows[item_].rows - begin_, limit - total);
      if (n > 0) pieces.push_back(rows[item_].part(begin_, n, d));
      total += n;
      begin_ += n;
      if (begin_ == rows[item_].rows) ++item_, begin_ = 0;
    }
    return total;
  }

 private:
  std::size_t item_ = 0;
  std::int64_t begin_ = 0;
};

enum class Operand { y, h };

/// The y or h rows of the pieces, for add_product.
template <class A>
void collect(Workspace<A>& ws, Operand operand) {
  ws.range.clear();
  for (const Rows<A>& r : ws.pieces)
    ws.range.push_back(operand == Operand::y ? RowRange<A>{r.y, r.ldy, r.rows}
                                             : RowRange<A>{r.h, r.ldh, r.rows});
}

/// o[lane, :] = softmax over ws.rows applied to their h; lse[lane], natural. `lanes` tokens x, at most NV
/// vectors.
template <int NV, class A>
void attend(Workspace<A>& ws, const A* x, std::int64_t ldx, std::int64_t lanes, std::int64_t d, A* o,
            std::int64_t ldo, A* lse) {
  using V = Vector<A>;
  constexpr int kW = kWidth<A>;
  constexpr int kL = NV * kW;
  pack_transposed<A>(x, ldx, lanes, kL, d, kLog2e<A> / std::sqrt(A(d)), ws.xt);
  V top[NV], sum[NV];
  for (int n = 0; n < NV; ++n) {
    top[n] = V{} - std::numeric_limits<A>::max();
    sum[n] = V{};
  }
  for (std::int64_t i = 0; i < lanes * d; ++i) ws.sum_a[i] = A(0);

  TileCursor<A> cursor;
  bool first = true;
  while (const std::int64_t total = cursor.next(ws.rows, ws.kTileRows / NV, d, ws.pieces)) {
    V tile_top[NV];
    for (int n = 0; n < NV; ++n) tile_top[n] = top[n];
    A* p = ws.p;
    for (const Rows<A>& r : ws.pieces) {
      const A* const add = r.score;
      dot_rows<NV>(r.y, r.ldy, r.rows, ws.xt, d, [&](std::int64_t row, auto& acc) {
        constexpr int kGroup = std::extent_v<std::remove_reference_t<decltype(acc)>>;
        LLSA_UNROLL for (int m = 0; m < kGroup; ++m) {
          const A bias = add ? add[row + m] : A(0);
          LLSA_UNROLL for (int n = 0; n < NV; ++n) {
            const V s = acc[m][n] + bias;
            tile_top[n] = s > tile_top[n] ? s : tile_top[n];
            store<V>(p + (row + m) * kL + n * kW, s);
          }
        }
      });
      p += r.rows * kL;
    }
    if (!first) {  // a later tile: bring what was summed so far to the new maximum
      for (int n = 0; n < NV; ++n) {
        const V shrink = exp2(top[n] - tile_top[n]);
        sum[n] *= shrink;
        store<V>(ws.lane_a + n * kW, shrink);
      }
      for (std::int64_t lane = 0; lane < lanes; ++lane)
        for (std::int64_t j = 0; j < d; ++j) ws.sum_a[lane * d + j] *= ws.lane_a[lane];
    }
    for (int n = 0; n < NV; ++n) top[n] = tile_top[n];
    first = false;
    for (std::int64_t row = 0; row < total; ++row) {
      LLSA_UNROLL for (int n = 0; n < NV; ++n) {
        A* const at = ws.p + row * kL + n * kW;
        const V e = exp2(load<V>(at) - top[n]);
        sum[n] += e;
        store<V>(at, e);
      }
    }
    collect(ws, Operand::h);
    add_product<A>(ws.p, 1, kL, ws.range.data(), static_cast<int>(ws.range.size()), d, lanes, ws.sum_a, d);
  }

  for (int n = 0; n < NV; ++n) {
    store<V>(ws.lane_a + n * kW, top[n]);
    store<V>(ws.lane_b + n * kW, sum[n]);
  }
  for (std::int64_t lane = 0; lane < lanes; ++lane) {
    const A scale = A(1) / ws.lane_b[lane];
    for (std::int64_t j = 0; j < d; ++j) o[lane * ldo + j] = ws.sum_a[lane * d + j] * scale;
    lse[lane] = (ws.lane_a[lane] + std::log2(ws.lane_b[lane])) * kLn2<A>;
  }
}

/// The lanes of a backward tile: tokens x with partner g (queries and dO, or keys and values), and what is
/// added to their base-2 scores and to their dP.
template <class A>
struct Lanes {
  const A* x = nullptr;
  std::int64_t ldx = 0;
  const A* g = nullptr;
  std::int64_t ldg = 0;
  std::int64_t count = 0;
  const A* score = nullptr;  ///< [count] or null = 0
  const A* slope = nullptr;  ///< [count] or null = 0
};

template <class A>
void load_lanes(A* to, const A* from, std::int64_t count, std::int64_t lanes) {
  for (std::int64_t i = 0; i < lanes; ++i) to[i] = from && i < count ? from[i] : A(0);
}

/// With P = 2^(x.y log2(e)/sqrt(D) + scores) and dS = P (g.h/sqrt(D) + slopes) over ws.rows:
/// adds dS y to sum_x[lane, :] and, if sum_g is not null, P h to sum_g[lane, :] (leading dimension D both).
/// Rows with dy and dh collect dS^T x and P^T g.
template <int NV, class A>
void attend_backward(Workspace<A>& ws, const Lanes<A>& lanes, std::int64_t d, A* sum_x, A* sum_g) {
  using V = Vector<A>;
  constexpr int kW = kWidth<A>;
  constexpr int kL = NV * kW;
  const A scale = A(1) / std::sqrt(A(d));
  pack_transposed<A>(lanes.x, lanes.ldx, lanes.count, kL, d, kLog2e<A> * scale, ws.xt);
  pack_transposed<A>(lanes.g, lanes.ldg, lanes.count, kL, d, scale, ws.gt);
  load_lanes(ws.lane_a, lanes.score, lanes.count, kL);
  load_lanes(ws.lane_b, lanes.slope, lanes.count, kL);
  V lane_score[NV], lane_slope[NV];
  for (int n = 0; n < NV; ++n) {
    lane_score[n] = load<V>(ws.lane_a + n * kW);
    lane_slope[n] = load<V>(ws.lane_b + n * kW);
  }
  const RowRange<A> x_range = {lanes.x, lanes.ldx, lanes.count};
  const RowRange<A> g_range = {lanes.g, lanes.ldg, lanes.count};

  TileCursor<A> cursor;
  while (cursor.next(ws.rows, 128, d, ws.pieces)) {
    A* p = ws.p;
    A* ds = ws.ds;
    for (const Rows<A>& r : ws.pieces) {
      const A* const row_score = r.score;
      const A* const row_slope = r.slope;
      dot_rows<NV>(r.y, r.ldy, r.rows, ws.xt, d, [&](std::int64_t row, auto& acc) {
        constexpr int kGroup = std::extent_v<std::remove_reference_t<decltype(acc)>>;
        LLSA_UNROLL for (int m = 0; m < kGroup; ++m) {
          const A add = row_score ? row_score[row + m] : A(0);
          LLSA_UNROLL for (int n = 0; n < NV; ++n)
              store<V>(p + (row + m) * kL + n * kW, exp2(acc[m][n] + (lane_score[n] + add)));
        }
      });
      dot_rows<NV>(r.h, r.ldh, r.rows, ws.gt, d, [&](std::int64_t row, auto& acc) {
        constexpr int kGroup = std::extent_v<std::remove_reference_t<decltype(acc)>>;
        LLSA_UNROLL for (int m = 0; m < kGroup; ++m) {
          const A add = row_slope ? row_slope[row + m] : A(0);
          LLSA_UNROLL for (int n = 0; n < NV; ++n) {
            const std::int64_t at = (row + m) * kL + n * kW;
            store<V>(ds + at, load<V>(p + at) * (acc[m][n] + (lane_slope[n] + add)));
          }
        }
      });
      if (r.dy) {
        add_product<A>(ds, kL, 1, &x_range, 1, d, r.rows, r.dy, d);
        add_product<A>(p, kL, 1, &g_range, 1, d, r.rows, r.dh, d);
      }
      p += r.rows * kL;
      ds += r.rows * kL;
    }
    collect(ws, Operand::y);
    const int count = static_cast<int>(ws.range.size());
    add_product<A>(ws.ds, 1, kL, ws.range.data(), count, d, lanes.count, sum_x, d);
    if (sum_g) {
      collect(ws, Operand::h);
      add_product<A>(ws.p, 1, kL, ws.range.data(), count, d, lanes.count, sum_g, d);
    }
  }
}

}  // namespace llsa::kernels::cpu::tile

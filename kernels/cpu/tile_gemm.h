// Register-blocked products of small tiles: the inner loops of attention.
//
// One kernel serves every product: C[MR x NV vectors] = sum_k A(m,k) B[k,:]. Elements of A are read one by one and
// broadcast, so A may have any strides. B is read as whole vectors, so its rows need unit stride. Each element of C is
// one chain of fused multiply-adds in the order of k, so results do not depend on how a product is cut into tiles.
//
// Vectors are compiler vector extensions as wide as the machine's registers. The same kernel with fewer rows and
// narrower vectors covers the edges, so nothing is padded and nothing is read out of bounds.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#if defined(__clang__)
#define LLSA_UNROLL _Pragma("unroll")
#else
#define LLSA_UNROLL _Pragma("GCC unroll 32")
#endif
#define LLSA_INLINE inline __attribute__((always_inline))

namespace llsa::kernels::cpu::tile {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
constexpr int kRows = 8;  // 8 rows x 2 vectors = 16 of 32 registers
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
constexpr int kRows = 6;  // 6 rows x 2 vectors = 12 of 16 registers
#elif defined(__aarch64__)
constexpr int kVectorBytes = 16;  // NEON
constexpr int kRows = 8;          // 8 rows x 2 vectors = 16 of 32 registers
#else
constexpr int kVectorBytes = 16;
constexpr int kRows = 4;  // 4 rows x 2 vectors = 8 of 16 registers
#endif

template <class A, int Bytes>
struct vector_of {
  typedef A type __attribute__((vector_size(Bytes)));
  typedef A in_memory __attribute__((vector_size(Bytes), aligned(alignof(A)), may_alias));
};
/// A vector of A in `Bytes` bytes.
template <class A, int Bytes = kVectorBytes>
using Vector = typename vector_of<A, Bytes>::type;

/// Elements of a full vector.
template <class A>
constexpr int kWidth = kVectorBytes / static_cast<int>(sizeof(A));

/// The signed integer as wide as A.
template <class A>
using Bits = std::conditional_t<sizeof(A) == 4, std::int32_t, std::int64_t>;

/// Vectors in memory have the alignment of their elements.
template <class V, class A>
LLSA_INLINE V load(const A* p) {
  return *reinterpret_cast<const typename vector_of<A, sizeof(V)>::in_memory*>(p);
}
template <class V, class A>
LLSA_INLINE void store(A* p, V v) {
  *reinterpret_cast<typename vector_of<A, sizeof(V)>::in_memory*>(p) = v;
}

/// Rows of B that follow each other at distance `stride`; they meet A from its k = `first` on.
template <class A>
struct RowRange {
  const A* data = nullptr;
  std::int64_t stride = 0;
  std::int64_t rows = 0;
  std::int64_t first = 0;
};

/// acc[m][n] += sum_k a[m am + k ak] b[n][k ldb ...], vectors of b. `ahead` is fetched into the cache
/// meanwhile, with the same distance between its lines, or null.
template <class V, int MR, int NV, class A>
LLSA_INLINE void multiply(V (&acc)[MR][NV], const A* a, std::int64_t am, std::int64_t ak,
                          const A* const (&b)[NV], std::int64_t ldb, std::int64_t k, const A* ahead) {
  const std::int64_t ahead_step = ahead ? ldb : 0;
  if (!ahead) ahead = b[0];
  for (std::int64_t at = 0; k > 0; --k, a += ak, at += ldb, ahead += ahead_step) {
    V row[NV];
    __builtin_prefetch(ahead);
    LLSA_UNROLL for (int n = 0; n < NV; ++n) row[n] = load<V>(b[n] + at);
    LLSA_UNROLL for (int m = 0; m < MR; ++m) {
      const A x = a[m * am];
      LLSA_UNROLL for (int n = 0; n < NV; ++n) acc[m][n] += x * row[n];
    }
  }
}

// ---- products against panels: sums[row, token] = sum_d x[row, d] token[d]
// ----------------------------------------------

// A panel is W tokens transposed, [D][W]: the tokens lie in the lanes of one vector.

template <int NV, int MR, class A, class Finish>
LLSA_INLINE void dot_block(const A* x, std::int64_t ldx, const A* const* panels, std::int64_t d,
                           std::int64_t row, std::int64_t panel, const A* ahead, Finish& finish) {
  using V = Vector<A>;
  V acc[MR][NV] = {};
  const A* b[NV];
  LLSA_UNROLL for (int n = 0; n < NV; ++n) b[n] = panels[panel + n];
  multiply<V, MR, NV>(acc, x + row * ldx, ldx, 1, b, kWidth<A>, d, ahead);
  finish(row, panel, acc);
}

template <int NV, class A, class Finish>
LLSA_INLINE void dot_rows(const A* x, std::int64_t ldx, std::int64_t rows, const A* const* panels,
                          std::int64_t count, std::int64_t d, std::int64_t panel, Finish& finish) {
  // While one group of rows meets these panels, the next panels come closer: one for each group.
  std::int64_t next = panel + NV;
  const auto ahead = [&]() -> const A* { return next < count ? panels[next++] : nullptr; };
  std::int64_t r = 0;
  for (; r + kRows <= rows; r += kRows) dot_block<NV, kRows>(x, ldx, panels, d, r, panel, ahead(), finish);
  if constexpr (kRows > 4) {
    if (r + 4 <= rows) dot_block<NV, 4>(x, ldx, panels, d, r, panel, ahead(), finish), r += 4;
  }
  if (r + 2 <= rows) dot_block<NV, 2>(x, ldx, panels, d, r, panel, ahead(), finish), r += 2;
  for (; r < rows; ++r) dot_block<NV, 1>(x, ldx, panels, d, r, panel, ahead(), finish);
}

/// Rows x against `count` panels; finish(row, panel, acc) receives blocks of sums: acc[m][n] belongs to row +
/// m and panel + n.
template <class A, class Finish>
LLSA_INLINE void dot_panels(const A* x, std::int64_t ldx, std::int64_t rows, const A* const* panels,
                            std::int64_t count, std::int64_t d, Finish finish) {
  std::int64_t p = 0;
  for (; p + 2 <= count; p += 2) dot_rows<2>(x, ldx, rows, panels, count, d, p, finish);
  if (p < count) dot_rows<1>(x, ldx, rows, panels, count, d, p, finish);
}

// ---- products that add into rows: c[m, :] += sum_k a(m,k) b[k, :]
// ---------------------------------------------------------

template <class V, int MR, int NV, class A>
LLSA_INLINE void add_block(const A* a, std::int64_t am, std::int64_t ak, const RowRange<A>* parts, int count,
                           std::int64_t column, A* c, std::int64_t ldc) {
  constexpr int kElements = static_cast<int>(sizeof(V) / sizeof(A));
  V acc[MR][NV] = {};
  for (int i = 0; i < count; ++i) {
    const RowRange<A>& part = parts[i];
    const A* b[NV];
    LLSA_UNROLL for (int n = 0; n < NV; ++n) b[n] = part.data + column + n * kElements;
    const A* const ahead = i + 1 < count ? parts[i + 1].data + column : nullptr;
    multiply<V, MR, NV>(acc, a + part.first * ak, am, ak, b, part.stride, part.rows, ahead);
  }
  LLSA_UNROLL for (int m = 0; m < MR; ++m) {
    LLSA_UNROLL for (int n = 0; n < NV; ++n) {
      A* at = c + m * ldc + column + n * kElements;
      store<V>(at, load<V>(at) + acc[m][n]);
    }
  }
}

template <class V, int NV, class A>
LLSA_INLINE void add_column(const A* a, std::int64_t am, std::int64_t ak, const RowRange<A>* parts, int count,
                            std::int64_t column, std::int64_t m, A* c, std::int64_t ldc) {
  std::int64_t r = 0;
  for (; r + kRows <= m; r += kRows)
    add_block<V, kRows, NV>(a + r * am, am, ak, parts, count, column, c + r * ldc, ldc);
  if constexpr (kRows > 4) {
    if (r + 4 <= m) add_block<V, 4, NV>(a + r * am, am, ak, parts, count, column, c + r * ldc, ldc), r += 4;
  }
  if (r + 2 <= m) add_block<V, 2, NV>(a + r * am, am, ak, parts, count, column, c + r * ldc, ldc), r += 2;
  for (; r < m; ++r) add_block<V, 1, NV>(a + r * am, am, ak, parts, count, column, c + r * ldc, ldc);
}

/// The last columns, fewer than a full vector: halves of halves, down to single elements.
template <int Bytes, class A>
LLSA_INLINE void add_narrow(const A* a, std::int64_t am, std::int64_t ak, const RowRange<A>* parts, int count,
                            std::int64_t column, std::int64_t n, std::int64_t m, A* c, std::int64_t ldc) {
  constexpr int kElements = Bytes / static_cast<int>(sizeof(A));
  if (column + kElements <= n) {
    add_column<Vector<A, Bytes>, 1>(a, am, ak, parts, count, column, m, c, ldc);
    column += kElements;
  }
  if constexpr (kElements > 1) add_narrow<Bytes / 2>(a, am, ak, parts, count, column, n, m, c, ldc);
}

/// c[m, 0..n) += sum over parts and their rows k of a[m am + (first + k) ak] part[k, 0..n).
template <class A>
void add_product(const A* a, std::int64_t am, std::int64_t ak, const RowRange<A>* parts, int count,
                 std::int64_t n, std::int64_t m, A* c, std::int64_t ldc) {
  constexpr int kW = kWidth<A>;
  std::int64_t column = 0;
  for (; column + 2 * kW <= n; column += 2 * kW)
    add_column<Vector<A>, 2>(a, am, ak, parts, count, column, m, c, ldc);
  if (column + kW <= n) {
    add_column<Vector<A>, 1>(a, am, ak, parts, count, column, m, c, ldc);
    column += kW;
  }
  if (column < n) add_narrow<kVectorBytes / 2>(a, am, ak, parts, count, column, n, m, c, ldc);
}

// ---- packing ------------------------------------------------------------------------------------------

/// Elements 0, W, 1, W+1, ... of two vectors of W, from element First of each on.
template <int First, class V, int... I>
LLSA_INLINE V interleave(V a, V b, std::integer_sequence<int, I...>) {
  constexpr int kElements = static_cast<int>(sizeof...(I));
  return __builtin_shufflevector(a, b, (First + I / 2 + I % 2 * kElements)...);
}

/// Transposes a square of W vectors: log2(W) perfect shuffles.
template <class A, int Step = 1>
LLSA_INLINE void transpose_square(Vector<A> (&x)[kWidth<A>]) {
  constexpr int kW = kWidth<A>;
  using Lanes = std::make_integer_sequence<int, kW>;
  Vector<A> y[kW];
  LLSA_UNROLL for (int i = 0; i < kW / 2; ++i) {
    y[2 * i] = interleave<0>(x[i], x[i + kW / 2], Lanes());
    y[2 * i + 1] = interleave<kW / 2>(x[i], x[i + kW / 2], Lanes());
  }
  LLSA_UNROLL for (int i = 0; i < kW; ++i) x[i] = y[i];
  if constexpr (2 * Step < kW) transpose_square<A, 2 * Step>(x);
}

/// Lane `lane` of a panel for the tokens x[0..rows): panel[d][lane + i] = scale x[i, d].
template <class A>
void pack_lanes(const A* x, std::int64_t ldx, std::int64_t rows, std::int64_t d, A scale, A* panel,
                std::int64_t lane) {
  constexpr std::int64_t kW = kWidth<A>;
  for (std::int64_t j = 0; j < d; ++j)
    for (std::int64_t i = 0; i < rows; ++i) panel[j * kW + lane + i] = scale * x[i * ldx + j];
}

/// A panel of the tokens x[0..rows), rows <= W; lanes without a token become 0.
template <class A>
void pack_panel(const A* x, std::int64_t ldx, std::int64_t rows, std::int64_t d, A scale, A* panel) {
  using V = Vector<A>;
  constexpr std::int64_t kW = kWidth<A>;
  std::int64_t j = 0;
  if (rows == kW) {
    for (; j + kW <= d; j += kW) {
      V square[kW];
      LLSA_UNROLL for (int i = 0; i < kW; ++i) square[i] = load<V>(x + i * ldx + j) * scale;
      transpose_square<A>(square);
      LLSA_UNROLL for (int i = 0; i < kW; ++i) store<V>(panel + (j + i) * kW, square[i]);
    }
  } else {
    for (std::int64_t e = 0; e < d * kW; ++e) panel[e] = A(0);
  }
  pack_lanes(x + j, ldx, rows, d - j, scale, panel + j * kW, 0);
}

}  // namespace llsa::kernels::cpu::tile

// Register-blocked products of small tiles: the inner loops of attention.
//
// One kernel serves every product: C[MR x NV vectors] = sum_k A(m,k) B[k,:]. A is read one element at a time
// and broadcast, so it may have any strides; B is read as whole vectors, so it needs unit stride along its
// rows and nothing else. Each element of C is one chain of fused multiply-adds in the order of k, whatever
// the blocking: results do not depend on how a product is cut into tiles.
//
// Vectors are compiler vector extensions as wide as the machine's registers. Edges are covered by the same
// kernel with fewer rows and narrower vectors, so that nothing is padded and nothing is read out of bounds.
#pragma once

#include <cstdint>
#include <type_traits>

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
#else
constexpr int kVectorBytes = 16;
constexpr int kRows = 4;
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

/// Rows of B that follow each other at distance `stride`.
template <class A>
struct RowRange {
  const A* data = nullptr;
  std::int64_t stride = 0;
  std::int64_t rows = 0;
};

/// acc[m][n] += sum_k a[m am + k ak] b[k ldb + n W].
template <class V, int MR, int NV, class A>
LLSA_INLINE void multiply(V (&acc)[MR][NV], const A* a, std::int64_t am, std::int64_t ak, const A* b,
                          std::int64_t ldb, std::int64_t k) {
  constexpr int kElements = static_cast<int>(sizeof(V) / sizeof(A));
  for (; k > 0; --k, a += ak, b += ldb) {
    V row[NV];
    LLSA_UNROLL for (int n = 0; n < NV; ++n) row[n] = load<V>(b + n * kElements);
    LLSA_UNROLL for (int m = 0; m < MR; ++m) {
      const A x = a[m * am];
      LLSA_UNROLL for (int n = 0; n < NV; ++n) acc[m][n] += x * row[n];
    }
  }
}

// ---- products against a packed tile: out[row, lane] = sum_d y[row, d] xt[d, lane]
// --------------------------------------

/// The rows y[0..rows) against xt [d][NV W]; finish(first_row, acc) receives the sums, MR rows of NV vectors.
template <int NV, int MR, class A, class Finish>
LLSA_INLINE void dot_group(const A* y, std::int64_t ldy, const A* xt, std::int64_t d, std::int64_t row,
                           Finish& finish) {
  using V = Vector<A>;
  V acc[MR][NV] = {};
  multiply<V, MR, NV>(acc, y + row * ldy, ldy, 1, xt, NV * kWidth<A>, d);
  finish(row, acc);
}

template <int NV, class A, class Finish>
LLSA_INLINE void dot_rows(const A* y, std::int64_t ldy, std::int64_t rows, const A* xt, std::int64_t d,
                          Finish finish) {
  std::int64_t r = 0;
  for (; r + kRows <= rows; r += kRows) dot_group<NV, kRows>(y, ldy, xt, d, r, finish);
  if constexpr (kRows > 4) {
    if (r + 4 <= rows) dot_group<NV, 4>(y, ldy, xt, d, r, finish), r += 4;
  }
  if (r + 2 <= rows) dot_group<NV, 2>(y, ldy, xt, d, r, finish), r += 2;
  for (; r < rows; ++r) dot_group<NV, 1>(y, ldy, xt, d, r, finish);
}

// ---- products that add into rows: c[m, :] += sum_k a(m,k) b[k, :]
// ---------------------------------------------------------

template <class V, int MR, int NV, class A>
LLSA_INLINE void add_block(const A* a, std::int64_t am, std::int64_t ak, const RowRange<A>* parts, int count,
                           std::int64_t column, A* c, std::int64_t ldc) {
  constexpr int kElements = static_cast<int>(sizeof(V) / sizeof(A));
  V acc[MR][NV] = {};
  for (int i = 0; i < count; ++i) {
    multiply<V, MR, NV>(acc, a, am, ak, parts[i].data + column, parts[i].stride, parts[i].rows);
    a += parts[i].rows * ak;
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

/// c[m, 0..n) += sum over the rows k of all parts of a[m am + k ak] part[k, 0..n).
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

// ---- packing
// -------------------------------------------------------------------------------------------------------------

/// xt[d][lane] = scale x[lane, d] for lane < rows, 0 for the other lanes.
template <class A>
void pack_transposed(const A* x, std::int64_t ldx, std::int64_t rows, std::int64_t lanes, std::int64_t d,
                     A scale, A* xt) {
  for (std::int64_t j = 0; j < d; ++j) {
    std::int64_t lane = 0;
    for (; lane < rows; ++lane) xt[j * lanes + lane] = scale * x[lane * ldx + j];
    for (; lane < lanes; ++lane) xt[j * lanes + lane] = A(0);
  }
}

}  // namespace llsa::kernels::cpu::tile

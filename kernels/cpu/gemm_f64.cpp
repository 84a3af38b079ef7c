// f64 products (oneDNN has none): blocked as by Goto and van de Geijn ("Anatomy of high-performance matrix
// multiplication", 2008).
//
// Blocks of a and b are packed into panels of kRows rows and kCols columns, filled up with zeros; the kernel
// keeps kRows x kCols sums in registers. Sums over k run in blocks of kDepth, always in the same order.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/scratch.h"

namespace llsa::kernels::cpu {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 8, kRows = 8;
#elif defined(__aarch64__)
constexpr int kLanes = 2, kRows = 8;  // NEON: 16 of 32 registers hold sums
#else
constexpr int kLanes = 4, kRows = 4;
#endif
constexpr int kVectors = 2;
constexpr std::int64_t kCols = kLanes * kVectors;
constexpr std::int64_t kDepth = 256, kHeight = 64, kWidth = 256;  // a block: 128 KiB, b block: 512 KiB

typedef double Vector __attribute__((vector_size(kLanes * sizeof(double))));

/// Packs x[lines, depth], element (i,p) at data[i line + p step], into panels [depth][Width].
template <std::int64_t Width>
void pack(const double* data, std::int64_t line, std::int64_t step, std::int64_t lines, std::int64_t depth,
          double* out) {
  for (std::int64_t first = 0; first < lines; first += Width) {
    const std::int64_t n = std::min(Width, lines - first);
    for (std::int64_t p = 0; p < depth; ++p, out += Width) {
      const double* const from = data + first * line + p * step;
      for (std::int64_t i = 0; i < n; ++i) out[i] = from[i * line];
      for (std::int64_t i = n; i < Width; ++i) out[i] = 0;
    }
  }
}

/// c[rows,cols] += a panel times b panel.
void multiply_panels(const double* a, const double* b, std::int64_t depth, double* c, std::int64_t ldc,
                     std::int64_t rows, std::int64_t cols) {
  Vector sum[kRows][kVectors] = {};
  for (std::int64_t p = 0; p < depth; ++p) {
    Vector right[kVectors];
    std::memcpy(right, b + p * kCols, sizeof right);
    for (int i = 0; i < kRows; ++i)
      for (int j = 0; j < kVectors; ++j) sum[i][j] += a[p * kRows + i] * right[j];
  }
  double result[kRows * kCols];
  std::memcpy(result, sum, sizeof result);
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < cols; ++j) c[i * ldc + j] += result[i * kCols + j];
}

}  // namespace

void gemm(std::int64_t m, std::int64_t n, std::int64_t k, MatrixRef<double> a, MatrixRef<double> b,
          const double* bias, double* c, std::int64_t ldc, bool accumulate) {
  if (!accumulate) {
    for (std::int64_t i = 0; i < m; ++i) {
      if (bias != nullptr)
        std::copy_n(bias, n, c + i * ldc);
      else
        std::fill_n(c + i * ldc, n, 0.0);
    }
  }
  double* const left = scratch<3, double>(kDepth * kHeight);
  double* const right = scratch<4, double>(kDepth * kWidth);
  for (std::int64_t j0 = 0; j0 < n; j0 += kWidth) {
    const std::int64_t width = std::min(kWidth, n - j0);
    for (std::int64_t p0 = 0; p0 < k; p0 += kDepth) {
      const std::int64_t depth = std::min(kDepth, k - p0);
      pack<kCols>(b.at(p0, j0).data, b.col, b.row, width, depth, right);
      for (std::int64_t i0 = 0; i0 < m; i0 += kHeight) {
        const std::int64_t height = std::min(kHeight, m - i0);
        pack<kRows>(a.at(i0, p0).data, a.row, a.col, height, depth, left);
        for (std::int64_t j = 0; j < width; j += kCols)
          for (std::int64_t i = 0; i < height; i += kRows)
            multiply_panels(left + i * depth, right + j * depth, depth, c + (i0 + i) * ldc + j0 + j, ldc,
                            std::min<std::int64_t>(kRows, height - i), std::min(kCols, width - j));
      }
    }
  }
}

}  // namespace llsa::kernels::cpu

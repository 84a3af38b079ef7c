// One matrix product on the calling thread; kernels/cpu/matmul.cpp cuts large products into such pieces.
#pragma once

#include <cstdint>
#include <string>

#include "../../core/dtype.h"

namespace llsa::kernels::cpu {

/// Element (i,j) is data[i row + j col]; one of the strides is 1 unless its axis has extent 1, the other is
/// at least the extent of the unit axis.
template <class T>
struct MatrixRef {
  const T* data;
  std::int64_t row, col;

  MatrixRef transposed() const { return {data, col, row}; }
  MatrixRef at(std::int64_t i, std::int64_t j) const { return {data + i * row + j * col, row, col}; }
};

/// c[m,n] = a[m,k] b[k,n] + bias[n], or c += a b with `accumulate` (and no bias). c has unit stride in its
/// rows, which are ldc apart. bias may be null. Any extent may be 0. f32 and bf16 by oneDNN, f64 by own code.
void gemm(std::int64_t m, std::int64_t n, std::int64_t k, MatrixRef<float> a, MatrixRef<float> b,
          const float* bias, float* c, std::int64_t ldc, bool accumulate);
void gemm(std::int64_t m, std::int64_t n, std::int64_t k, MatrixRef<bf16> a, MatrixRef<bf16> b,
          const float* bias, float* c, std::int64_t ldc, bool accumulate);
void gemm(std::int64_t m, std::int64_t n, std::int64_t k, MatrixRef<double> a, MatrixRef<double> b,
          const double* bias, double* c, std::int64_t ldc, bool accumulate);

/// "oneDNN 3.7.2"
std::string gemm_library();

}  // namespace llsa::kernels::cpu

// Softmax and log-sum-exp of one row, for softmax and cross entropy. A NaN anywhere in the row gives NaN.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "../../core/dtype.h"
#include "vec_math.h"

namespace llsa::kernels::cpu {

/// Largest element that is not NaN; -infinity when there is none.
template <class T, class A = accumulator_t<T>>
A row_max(const T* x, std::int64_t n) {
  A m = -std::numeric_limits<A>::infinity();
#pragma omp simd reduction(max : m)
  for (std::int64_t i = 0; i < n; ++i) {
    const A value = x[i];
    m = value > m ? value : m;
  }
  return m;
}

/// y = softmax(x); e is scratch of n values, y itself when T is A.
template <class T, class A = accumulator_t<T>>
void softmax_row(const T* x, T* y, A* e, std::int64_t n) {
  const A m = row_max(x, n);
  A sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < n; ++i) {
    e[i] = exp_flush(static_cast<A>(x[i]) - m);
    sum += e[i];
  }
  const A scale = A(1) / sum;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) y[i] = static_cast<T>(e[i] * scale);
}

/// ln sum e^x; -infinity for an empty row or one of -infinity only.
template <class T, class A = accumulator_t<T>>
A log_sum_exp_row(const T* x, std::int64_t n) {
  const A m = row_max(x, n);
  const A reference = std::abs(m) < std::numeric_limits<A>::infinity() ? m : A(0);
  A sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < n; ++i) sum += exp(static_cast<A>(x[i]) - reference);
  return reference + std::log(sum);
}

}  // namespace llsa::kernels::cpu

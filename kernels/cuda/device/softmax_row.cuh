// What softmax, log-sum-exp and cross entropy need of one row, by the lanes of one warp. NaN anywhere in the
// row gives NaN.
#pragma once

#include <cmath>
#include <limits>

#include "launch.cuh"
#include "types.cuh"

namespace llsa::kernels::cuda {

/// Largest element that is not NaN; -infinity when there is none.
template <class T, class A = accumulator_t<T>>
__device__ A row_max(const T* x, std::int64_t n) {
  A m = -std::numeric_limits<A>::infinity();
  for (std::int64_t i = lane_of_thread(); i < n; i += 32) {
    const A value = static_cast<A>(x[i]);
    m = value > m ? value : m;
  }
  return warp_max(m);
}

/// ln sum e^x; -infinity for an empty row or one of -infinity only.
template <class T, class A = accumulator_t<T>>
__device__ A log_sum_exp_row(const T* x, std::int64_t n) {
  const A m = row_max(x, n);
  const A reference = std::abs(m) < std::numeric_limits<A>::infinity() ? m : A(0);
  A sum = 0;
  for (std::int64_t i = lane_of_thread(); i < n; i += 32) sum += std::exp(static_cast<A>(x[i]) - reference);
  return reference + std::log(warp_sum(sum));
}

}  // namespace llsa::kernels::cuda

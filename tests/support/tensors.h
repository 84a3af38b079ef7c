// For tests of tensors: relative and bitwise comparison, scalar product.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/context.h"
#include "kernels/copy.h"

namespace llsa::test {

/// max|a - b| / max|b|; infinity where shapes differ, NaN where a value is NaN.
inline double relative_error(Context& ctx, const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape()) return std::numeric_limits<double>::infinity();
  const auto x = kernels::to_vector<double>(ctx, a);
  const auto y = kernels::to_vector<double>(ctx, b);
  double difference = 0.0;
  double largest = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (std::isnan(x[i]) || std::isnan(y[i])) return std::numeric_limits<double>::quiet_NaN();
    difference = std::max(difference, std::abs(x[i] - y[i]));
    largest = std::max(largest, std::abs(y[i]));
  }
  return largest > 0.0 ? difference / largest : difference;
}

inline double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

inline bool same_bits(Context& ctx, const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape() || a.dtype() != b.dtype()) return false;
  const Tensor x = kernels::contiguous(ctx, a);
  const Tensor y = kernels::contiguous(ctx, b);
  return x.nbytes() == 0 || std::memcmp(x.raw(), y.raw(), x.nbytes()) == 0;
}

}  // namespace llsa::test

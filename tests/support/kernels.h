// For tests of kernels: random tensors, views with gaps, error measures in which NaN fails, finite
// differences.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "core/context.h"
#include "core/philox.h"
#include "kernels/copy.h"
#include "tests/support/tensors.h"

namespace llsa::test {

using Values = std::vector<double>;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Standard normal values times `scale`, rounded to the dtype.
inline Tensor random_tensor(Context& ctx, const Shape& shape, DType dtype, std::uint64_t seed,
                            double scale = 1.0) {
  const Philox philox{seed, 77};
  Values values(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = scale * static_cast<double>(philox.normal(i));
  return kernels::cast(ctx, kernels::from_vector(ctx, values, shape), dtype);
}

inline Values values_of(Context& ctx, const Tensor& x) { return kernels::to_vector<double>(ctx, x); }

/// The same elements with every stride doubled and room between the rows.
inline Tensor with_gaps(Context& ctx, const Tensor& x) {
  std::vector<std::int64_t> extents = x.shape().extents();
  extents.back() *= 2;
  extents.front() += 1;
  const Tensor room = ctx.empty(Shape(extents), x.dtype());
  kernels::fill(ctx, room, kNan);
  Tensor view = room.slice(-1, 0, extents.back(), 2);
  view = view.slice(0, 1, view.size(0));
  kernels::copy(ctx, x, view);
  return view;
}

/// The same elements, last two axes swapped in memory.
inline Tensor transposed_in_memory(Context& ctx, const Tensor& x) {
  return kernels::clone(ctx, x.transpose(-1, -2)).transpose(-1, -2);
}

/// max |a - b| / max |b|, infinite when sizes differ or a number meets a NaN.
inline double deviation(const Values& a, const Values& b) {
  if (a.size() != b.size()) return kInfinity;
  double error = 0;
  double scale = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    const double d = a[i] == b[i] ? 0.0 : std::abs(a[i] - b[i]);
    if (!(d <= error)) error = std::isnan(d) ? kInfinity : d;
    if (std::isfinite(b[i])) scale = std::max(scale, std::abs(b[i]));
  }
  return error == 0 ? 0 : error / std::max(scale, 1e-30);
}
inline double deviation(Context& ctx, const Tensor& a, const Values& b) {
  return deviation(values_of(ctx, a), b);
}
inline double deviation(Context& ctx, const Tensor& a, const Tensor& b) {
  return deviation(values_of(ctx, a), values_of(ctx, b));
}

/// Bound on deviation for a result that went through a few dozen roundings.
inline double tolerance(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return 1e-13;
    case DType::f32:
      return 3e-6;
    default:
      return 1e-2;
  }
}

/// Runs a computation with 1, 2 and 3 threads; true when all results agree bit for bit.
inline bool same_bits_for_any_threads(const std::function<std::vector<Tensor>(Context&)>& compute) {
  Context one(1);
  const std::vector<Tensor> reference = compute(one);
  for (const int threads : {2, 3}) {
    Context ctx(threads);
    const std::vector<Tensor> results = compute(ctx);
    if (results.size() != reference.size()) return false;
    for (std::size_t i = 0; i < reference.size(); ++i)
      if (!same_bits(ctx, results[i], reference[i])) return false;
  }
  return true;
}

/// Relative error of `gradient` against central differences of dot(f(), dy) in the elements of the contiguous
/// f64 tensor x, which is changed in place and restored.
inline double gradient_error(Context& ctx, const Tensor& x, const Tensor& gradient, const Tensor& dy,
                             const std::function<Tensor()>& f) {
  const Values weights = values_of(ctx, dy);
  Values numeric(static_cast<std::size_t>(x.numel()));
  auto* element = x.data<double>();
  for (double& value : numeric) {
    const double before = *element;
    constexpr double kStep = 1e-5;
    *element = before + kStep;
    const double above = dot(values_of(ctx, f()), weights);
    *element = before - kStep;
    const double below = dot(values_of(ctx, f()), weights);
    *element++ = before;
    value = (above - below) / (2 * kStep);
  }
  return deviation(values_of(ctx, gradient), numeric);
}

/// what() of the exception of type E that f throws; fails the test when it throws none.
template <class E, class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const E& error) {
    return error.what();
  } catch (const std::exception& error) {
    FAIL_CHECK("another exception: " << error.what());
    return {};
  }
  FAIL_CHECK("no exception");
  return {};
}

/// The message holds all parts.
inline bool contains(const std::string& text, std::initializer_list<const char*> parts) {
  return std::all_of(parts.begin(), parts.end(),
                     [&](const char* part) { return text.find(part) != std::string::npos; });
}

}  // namespace llsa::test

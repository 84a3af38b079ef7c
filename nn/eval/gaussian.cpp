// Factors by Householder reflections, and singular values by bisection.
#include "nn/eval/gaussian.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/error.h"
#include "kernels/copy.h"
#include "kernels/matmul.h"

namespace llsa::nn {
namespace {

constexpr std::int64_t kColumns = 128;  // of a row that a thread takes at a time

/// The reflection I - tau v v^T, v_0 = 1, that turns (first, rest) into (result, 0).
struct Reflection {
  double result = 0, tau = 0;
  std::vector<double> v;  // without v_0

  Reflection(double first, const std::vector<double>& rest) {
    double square = 0;
    for (const double x : rest) square += x * x;
    result = first;
    if (square == 0) return;
    const double norm = std::sqrt(first * first + square);
    result = first > 0 ? -norm : norm;
    tau = (result - first) / result;
    v = rest;
    for (double& x : v) x /= first - result;
  }

  /// Reflects the columns [begin, end) of the rows `head` and body, body + stride, ...
  void reflect_columns(double* head, double* body, std::int64_t stride, std::int64_t begin,
                       std::int64_t end) const {
    double sum[kColumns];
    const std::int64_t count = end - begin;
    std::copy(head + begin, head + end, sum);
    for (std::size_t i = 0; i < v.size(); ++i) {
      const double* const row = body + static_cast<std::int64_t>(i) * stride + begin;
#pragma omp simd
      for (std::int64_t k = 0; k < count; ++k) sum[k] += v[i] * row[k];
    }
    for (std::int64_t k = 0; k < count; ++k) head[begin + k] -= tau * sum[k];
    for (std::size_t i = 0; i < v.size(); ++i) {
      double* const row = body + static_cast<std::int64_t>(i) * stride + begin;
      const double factor = tau * v[i];
#pragma omp simd
      for (std::int64_t k = 0; k < count; ++k) row[k] -= factor * sum[k];
    }
  }
};

/// Reflects all columns from `begin` on, in parallel.
void reflect_all_columns(Context& ctx, const Reflection& reflection, double* head, double* body,
                         std::int64_t stride, std::int64_t begin, std::int64_t end) {
  if (reflection.tau == 0) return;
  ctx.pool().parallel_ranges(end - begin, kColumns, [&](std::int64_t first, std::int64_t last) {
    reflection.reflect_columns(head, body, stride, begin + first, begin + last);
  });
}

/// R becomes the factor of R^T R + rows^T rows; rows [m,F] are overwritten.
void fold_rows(Context& ctx, const Tensor& factor, const Tensor& rows) {
  const std::int64_t m = rows.size(0), f = rows.size(1);
  double* const r = factor.data<double>();
  double* const b = rows.data<double>();
  std::vector<double> column(static_cast<std::size_t>(m));
  for (std::int64_t j = 0; j < f; ++j) {
    for (std::int64_t i = 0; i < m; ++i) column[static_cast<std::size_t>(i)] = b[i * f + j];
    const Reflection reflection(r[j * f + j], column);
    reflect_all_columns(ctx, reflection, r + j * f, b, f, j + 1, f);
    r[j * f + j] = reflection.result;
  }
}

/// How many of the singular values of the bidiagonal matrix lie below x > 0. `off` holds d_0, e_0, d_1, ..: the
/// off-diagonals of a symmetric tridiagonal matrix with zeros on its diagonal, whose eigenvalues are the singular
/// values with both signs.
std::int64_t count_below(const std::vector<double>& off, double x) {
  std::int64_t negative = 0;
  double q = -x;
  for (std::size_t i = 0;; ++i) {
    negative += q < 0;
    if (i == off.size()) break;
    if (std::abs(q) < std::numeric_limits<double>::min()) q = -std::numeric_limits<double>::min();
    q = -x - off[i] * off[i] / q;
  }
  return negative - static_cast<std::int64_t>(off.size() + 1) / 2;  // half of the eigenvalues are below 0
}

/// d_0, e_0, d_1, e_1, .. d_{n-1} of a square matrix, which is overwritten.
std::vector<double> bidiagonal(Context& ctx, const Tensor& matrix) {
  const std::int64_t n = matrix.size(0);
  double* const a = matrix.data<double>();
  std::vector<double> off;
  for (std::int64_t j = 0; j < n; ++j) {
    double* const row = a + j * n;
    std::vector<double> rest;
    for (std::int64_t i = j + 1; i < n; ++i) rest.push_back(a[i * n + j]);
    const Reflection left(row[j], rest);
    reflect_all_columns(ctx, left, row, row + n, n, j + 1, n);
    off.push_back(left.result);
    if (j + 1 == n) break;

    const Reflection right(row[j + 1], std::vector<double>(row + j + 2, row + n));
    off.push_back(right.result);
    if (right.tau == 0) continue;
    ctx.pool().parallel_ranges(n - j - 1, std::max<std::int64_t>(1, 16384 / n),
                               [&](std::int64_t first, std::int64_t last) {
                                 for (std::int64_t i = j + 1 + first; i < j + 1 + last; ++i) {
                                   double* const x = a + i * n + j + 1;
                                   const auto count = static_cast<std::int64_t>(right.v.size());
                                   double sum = x[0];
#pragma omp simd reduction(+ : sum)
                                   for (std::int64_t k = 0; k < count; ++k)
                                     sum += x[k + 1] * right.v[static_cast<std::size_t>(k)];
                                   sum *= right.tau;
                                   x[0] -= sum;
#pragma omp simd
                                   for (std::int64_t k = 0; k < count; ++k)
                                     x[k + 1] -= sum * right.v[static_cast<std::size_t>(k)];
                                 }
                               });
  }
  return off;
}

void check_features(const Tensor& features, std::int64_t width) {
  if (features.rank() != 2 || features.size(1) < 1 || (width > 0 && features.size(1) != width) ||
      !features.is_contiguous())
    throw ShapeError(cat("[gaussian] expected contiguous features [n,",
                         width > 0 ? cat(width) : std::string("F"), "], got ", features.shape()));
  const double* const x = features.data<double>();
  for (std::int64_t i = 0; i < features.numel(); ++i)
    if (!std::isfinite(x[i]))
      throw NonFiniteError(cat("[gaussian] feature ", i % features.size(1), " of image ",
                               i / features.size(1), " is not finite"));
}

/// R / sqrt(n - 1), with the ridge folded in.
Tensor scaled_factor(Context& ctx, const Gaussian& g, double ridge) {
  const std::int64_t f = g.width();
  const Tensor factor = kernels::clone(ctx, g.factor());
  double* const r = factor.data<double>();
  const double scale = 1 / std::sqrt(static_cast<double>(g.count() - 1));
  for (std::int64_t i = 0; i < f * f; ++i) r[i] *= scale;
  if (ridge > 0) {
    const Tensor rows = ctx.zeros({f, f}, DType::f64);
    for (std::int64_t i = 0; i < f; ++i) rows.data<double>()[i * f + i] = std::sqrt(ridge);
    fold_rows(ctx, factor, rows);
  }
  return factor;
}

double sum_of_squares(const Tensor& x) {
  double sum = 0;
  for (std::int64_t i = 0; i < x.numel(); ++i) sum += x.data<double>()[i] * x.data<double>()[i];
  return sum;
}

}  // namespace

Gaussian::Gaussian(Tensor mean, Tensor factor, std::int64_t count)
    : mean_(std::move(mean)), factor_(std::move(factor)), count_(count) {
  if (mean_.rank() != 1 || !(factor_.shape() == Shape{mean_.size(0), mean_.size(0)}))
    throw ShapeError(cat("[gaussian] expected a mean [F] and a factor [F,F], got ", mean_.shape(), " and ",
                         factor_.shape()));
}

void Gaussian::add(Context& ctx, const Tensor& features) {
  check_features(features, width());
  const std::int64_t n = features.size(0), f = features.size(1);
  if (n == 0) return;
  if (!mean_.defined()) {
    mean_ = ctx.zeros({f}, DType::f64);
    factor_ = ctx.zeros({f, f}, DType::f64);
  }
  // The rows around their own mean, and one row for the distance of the two means.
  const Tensor rows = ctx.zeros({n + 1, f}, DType::f64);
  double* const mean = mean_.data<double>();
  double* const row = rows.data<double>();
  const double* const x = features.data<double>();
  const auto before = static_cast<double>(count_), now = static_cast<double>(n);
  for (std::int64_t j = 0; j < f; ++j) {
    double sum = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += x[i * f + j];
    const double centre = sum / now, distance = centre - mean[j];
    for (std::int64_t i = 0; i < n; ++i) row[i * f + j] = x[i * f + j] - centre;
    row[n * f + j] = std::sqrt(before * now / (before + now)) * distance;
    mean[j] += distance * now / (before + now);
  }
  fold_rows(ctx, factor_, rows);
  count_ += n;
}

double sum_of_singular_values(Context& ctx, const Tensor& matrix) {
  if (matrix.rank() != 2 || matrix.size(0) != matrix.size(1))
    throw ShapeError(cat("[gaussian] expected a square matrix, got ", matrix.shape()));
  const std::int64_t n = matrix.size(0);
  if (n == 0) return 0;
  const std::vector<double> off = bidiagonal(ctx, kernels::clone(ctx, matrix));
  double bound = 0;  // of the eigenvalues: the largest sum of the magnitudes in a row
  for (std::size_t i = 0; i < off.size(); ++i)
    bound = std::max(bound, std::abs(off[i]) + (i > 0 ? std::abs(off[i - 1]) : 0));
  if (bound == 0) return 0;
  std::vector<double> values(static_cast<std::size_t>(n));
  ctx.pool().parallel_for(n, [&](std::int64_t k) {
    double low = 0, high = bound * (1 + 1e-15);
    for (;;) {
      const double middle = low + (high - low) / 2;
      if (middle <= low || middle >= high || high - low <= 1e-17 * bound) break;
      (count_below(off, middle) > k ? high : low) = middle;
    }
    values[static_cast<std::size_t>(k)] = low + (high - low) / 2;
  });
  double sum = 0;
  for (const double value : values) sum += value;  // ascending
  return sum;
}

double frechet_distance(Context& ctx, const Gaussian& a, const Gaussian& b, double ridge) {
  if (a.count() < 2 || b.count() < 2)
    throw ValueError(
        cat("[frechet] expected two images or more on both sides, got ", a.count(), " and ", b.count()));
  if (a.width() != b.width())
    throw ShapeError(cat("[frechet] expected features of one width, got ", a.width(), " and ", b.width()));
  const Tensor ra = scaled_factor(ctx, a, ridge), rb = scaled_factor(ctx, b, ridge);
  double distance = 0;
  for (std::int64_t i = 0; i < a.width(); ++i) {
    const double difference = a.mean().data<double>()[i] - b.mean().data<double>()[i];
    distance += difference * difference;
  }
  distance += sum_of_squares(ra) + sum_of_squares(rb);
  return distance - 2 * sum_of_singular_values(ctx, kernels::matmul(ctx, ra, rb, false, true));
}

}  // namespace llsa::nn

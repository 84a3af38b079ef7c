#include "nn/eval/scores.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/philox.h"
#include "kernels/matmul.h"

namespace llsa::nn {
namespace {

constexpr std::uint64_t kSubsetStream = 0x6b6964000000u;  // "kid"

/// Rows of x [n,d] by number.
Tensor rows_of(Context& ctx, const Tensor& x, const std::vector<std::int64_t>& numbers) {
  const std::int64_t d = x.size(1);
  const Tensor rows = ctx.empty({static_cast<std::int64_t>(numbers.size()), d}, DType::f64);
  for (std::size_t i = 0; i < numbers.size(); ++i)
    std::copy_n(x.data<double>() + numbers[i] * d, d, rows.data<double>() + static_cast<std::int64_t>(i) * d);
  return rows;
}

/// `size` random rows of x.
Tensor random_rows(Context& ctx, const Tensor& x, std::int64_t size, const Philox& random) {
  auto numbers = random_order<std::int64_t>(random, x.size(0));
  numbers.resize(static_cast<std::size_t>(size));
  return rows_of(ctx, x, numbers);
}

/// The sum of (a . b / d + 1)^3 over all pairs of rows, or over pairs of different numbers.
double kernel_sum(Context& ctx, const Tensor& x, const Tensor& y, bool different) {
  const Tensor dots = kernels::matmul(ctx, x, y, false, true);
  const std::int64_t n = dots.size(0), m = dots.size(1);
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    double row = 0;
    for (std::int64_t j = 0; j < m; ++j) {
      if (different && i == j) continue;
      const double k = dots.data<double>()[i * m + j] / static_cast<double>(x.size(1)) + 1;
      row += k * k * k;
    }
    sum += row;
  }
  return sum;
}

}  // namespace

MeanAndSpread mean_and_spread(const std::vector<double>& parts) {
  MeanAndSpread result;
  for (const double x : parts) result.mean += x / static_cast<double>(parts.size());
  double squares = 0;
  for (const double x : parts)
    squares += (x - result.mean) * (x - result.mean) / static_cast<double>(parts.size());
  result.spread = std::sqrt(squares);
  return result;
}

InceptionScore::InceptionScore(int parts) {
  if (parts < 1) throw ValueError(cat("[inception_score] expected at least one part, got ", parts));
  parts_.resize(static_cast<std::size_t>(parts));
}

void InceptionScore::add(const Tensor& logits, std::int64_t part) {
  if (part < 0 || part >= static_cast<std::int64_t>(parts_.size()))
    throw ValueError(cat("[inception_score] expected a part from 0 to ", parts_.size() - 1, ", got ", part));
  Part& to = parts_[static_cast<std::size_t>(part)];
  const std::int64_t classes = logits.rank() == 2 ? logits.size(1) : 0;
  if (classes < 1 || !logits.is_contiguous() ||
      (to.count > 0 && static_cast<std::int64_t>(to.classes.size()) != classes))
    throw ShapeError(cat("[inception_score] expected contiguous logits [n,",
                         to.count > 0 ? cat(to.classes.size()) : std::string("C"), "], got ",
                         logits.shape()));
  to.classes.resize(static_cast<std::size_t>(classes));
  for (std::int64_t i = 0; i < logits.size(0); ++i) {
    const double* const z = logits.data<double>() + i * classes;
    const double largest = *std::max_element(z, z + classes);
    double total = 0;
    for (std::int64_t c = 0; c < classes; ++c) total += std::exp(z[c] - largest);
    for (std::int64_t c = 0; c < classes; ++c) {
      const double ln = z[c] - largest - std::log(total), p = std::exp(ln);
      to.negative_entropy += p * ln;
      to.classes[static_cast<std::size_t>(c)] += p;
    }
    ++to.count;
  }
}

std::vector<double> InceptionScore::parts() const {
  std::vector<double> scores;
  for (const Part& part : parts_) {
    if (part.count == 0) continue;
    const auto n = static_cast<double>(part.count);
    double divergence = part.negative_entropy / n;
    for (const double sum : part.classes)
      if (sum > 0) divergence -= sum / n * std::log(sum / n);
    scores.push_back(std::exp(divergence));
  }
  return scores;
}

double squared_mmd(Context& ctx, const Tensor& x, const Tensor& y) {
  if (x.rank() != 2 || !(x.shape() == y.shape()))
    throw ShapeError(
        cat("[kernel_distance] expected features [m,d] twice, got ", x.shape(), " and ", y.shape()));
  const auto m = static_cast<double>(x.size(0));
  if (m < 2) throw ValueError(cat("[kernel_distance] expected two images or more, got ", x.size(0)));
  return (kernel_sum(ctx, x, x, true) + kernel_sum(ctx, y, y, true)) / (m * (m - 1)) -
         2 * kernel_sum(ctx, x, y, false) / (m * m);
}

std::vector<double> kernel_distances(Context& ctx, const Tensor& x, const Tensor& y, int subsets,
                                     std::int64_t size, std::uint64_t seed) {
  if (x.rank() != 2 || y.rank() != 2 || x.size(1) != y.size(1))
    throw ShapeError(
        cat("[kernel_distance] expected features [n,d] and [m,d], got ", x.shape(), " and ", y.shape()));
  if (size > x.size(0) || size > y.size(0))
    throw ValueError(cat("[kernel_distance] expected at least ", size, " images on both sides, got ",
                         x.size(0), " and ", y.size(0)));
  std::vector<double> distances;
  for (int s = 0; s < subsets; ++s) {
    const auto stream = kSubsetStream + 2 * static_cast<std::uint64_t>(s);
    distances.push_back(squared_mmd(ctx, random_rows(ctx, x, size, {seed, stream}),
                                    random_rows(ctx, y, size, {seed, stream + 1})));
  }
  return distances;
}

}  // namespace llsa::nn

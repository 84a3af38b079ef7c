#include "nn/eval/scores.h"

#include <algorithm>
#include <cmath>
#include <numeric>

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

/// The first `size` of 0 .. n - 1 in random order.
std::vector<std::int64_t> random_subset(const Philox& random, std::int64_t n, std::int64_t size) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(n));
  std::iota(all.begin(), all.end(), 0);
  for (std::int64_t i = 0; i < size; ++i)
    std::swap(all[static_cast<std::size_t>(i)],
              all[static_cast<std::size_t>(
                  i + random.below(static_cast<std::uint64_t>(i), static_cast<std::uint32_t>(n - i)))]);
  all.resize(static_cast<std::size_t>(size));
  return all;
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
  for (const double x : parts) squares += (x - result.mean) * (x - result.mean) / static_cast<double>(parts.size());
  result.spread = std::sqrt(squares);
  return result;
}

InceptionScore::InceptionScore(std::int64_t count, int splits) : count_(count) {
  if (count < 1 || splits < 1)
    throw ValueError(cat("[inception_score] expected at least one image and one part, got ", count, " and ", splits));
  const auto parts = static_cast<std::size_t>(std::min<std::int64_t>(splits, count));
  negative_entropy_.resize(parts);
  classes_.resize(parts);
}

void InceptionScore::add(const Tensor& logits) {
  const std::int64_t classes = logits.rank() == 2 ? logits.size(1) : 0;
  if (logits.rank() != 2 || classes < 1 || !logits.is_contiguous() ||
      (!classes_[0].empty() && static_cast<std::int64_t>(classes_[0].size()) != classes))
    throw ShapeError(cat("[inception_score] expected contiguous logits [n,",
                         classes_[0].empty() ? std::string("C") : cat(classes_[0].size()), "], got ", logits.shape()));
  if (done_ + logits.size(0) > count_)
    throw ShapeError(cat("[inception_score] expected ", count_, " images in all, got ", done_ + logits.size(0)));
  const auto parts = static_cast<std::int64_t>(classes_.size());
  std::vector<double> log_p(static_cast<std::size_t>(classes));
  for (std::int64_t i = 0; i < logits.size(0); ++i, ++done_) {
    // Part s ends before floor((s + 1) N / parts).
    std::int64_t s = done_ * parts / count_;
    while ((s + 1) * count_ / parts <= done_) ++s;
    auto& sums = classes_[static_cast<std::size_t>(s)];
    sums.resize(static_cast<std::size_t>(classes));
    const double* const z = logits.data<double>() + i * classes;
    const double largest = *std::max_element(z, z + classes);
    double total = 0;
    for (std::int64_t c = 0; c < classes; ++c) total += std::exp(z[c] - largest);
    double entropy = 0;
    for (std::int64_t c = 0; c < classes; ++c) {
      const double ln = z[c] - largest - std::log(total), p = std::exp(ln);
      entropy += p * ln;
      sums[static_cast<std::size_t>(c)] += p;
    }
    negative_entropy_[static_cast<std::size_t>(s)] += entropy;
  }
}

std::vector<double> InceptionScore::parts() const {
  if (done_ != count_)
    throw ValueError(cat("[inception_score] expected ", count_, " images, got ", done_));
  std::vector<double> scores;
  const auto parts = static_cast<std::int64_t>(classes_.size());
  for (std::int64_t s = 0; s < parts; ++s) {
    const auto n = static_cast<double>((s + 1) * count_ / parts - s * count_ / parts);
    double divergence = negative_entropy_[static_cast<std::size_t>(s)] / n;
    for (const double sum : classes_[static_cast<std::size_t>(s)])
      if (sum > 0) divergence -= sum / n * std::log(sum / n);
    scores.push_back(std::exp(divergence));
  }
  return scores;
}

double squared_mmd(Context& ctx, const Tensor& x, const Tensor& y) {
  if (x.rank() != 2 || !(x.shape() == y.shape()))
    throw ShapeError(cat("[kernel_distance] expected features [m,d] twice, got ", x.shape(), " and ", y.shape()));
  const auto m = static_cast<double>(x.size(0));
  if (m < 2) throw ValueError(cat("[kernel_distance] expected two images or more, got ", x.size(0)));
  return (kernel_sum(ctx, x, x, true) + kernel_sum(ctx, y, y, true)) / (m * (m - 1)) -
         2 * kernel_sum(ctx, x, y, false) / (m * m);
}

std::vector<double> kernel_distances(Context& ctx, const Tensor& x, const Tensor& y, int subsets, std::int64_t size,
                                     std::uint64_t seed) {
  if (x.rank() != 2 || y.rank() != 2 || x.size(1) != y.size(1))
    throw ShapeError(cat("[kernel_distance] expected features [n,d] and [m,d], got ", x.shape(), " and ", y.shape()));
  if (size > x.size(0) || size > y.size(0))
    throw ValueError(cat("[kernel_distance] expected at least ", size, " images on both sides, got ", x.size(0),
                         " and ", y.size(0)));
  std::vector<double> distances;
  for (int s = 0; s < subsets; ++s) {
    const auto stream = kSubsetStream + 2 * static_cast<std::uint64_t>(s);
    distances.push_back(
        squared_mmd(ctx, rows_of(ctx, x, random_subset({seed, stream}, x.size(0), size)),
                    rows_of(ctx, y, random_subset({seed, stream + 1}, y.size(0), size))));
  }
  return distances;
}

}  // namespace llsa::nn

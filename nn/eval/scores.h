// Scores of images by the network of 2015 that classifies them (inception.h): Inception Score and Kernel Inception
// Distance. The Frechet Inception Distance is in gaussian.h.
//
// Everything is f64, on the CPU.
#pragma once

#include <cstdint>
#include <vector>

#include "../../core/context.h"

namespace llsa::nn {

/// A mean over parts, and the spread of the parts: the root of the mean squared difference.
struct MeanAndSpread {
  double mean = 0, spread = 0;
};
MeanAndSpread mean_and_spread(const std::vector<double>& parts);

/// Inception Score (Salimans et al., arXiv 1606.03498): exp of the mean over images of KL(p(y|x) || p(y)), for each of
/// `splits` parts of the images in their order; part i holds rows floor(i N / splits) .. floor((i + 1) N / splits) - 1.
class InceptionScore {
 public:
  /// `count` is the number N of images that will be added. Fewer images than splits are one part each. Throws
  /// ValueError for a count or splits below 1.
  explicit InceptionScore(std::int64_t count, int splits = 10);

  /// Adds logits f64 [n,C] of the next n images; the memory does not grow. Throws ShapeError for more images than were
  /// announced or another C.
  void add(const Tensor& logits);

  /// The score of each part. Throws ValueError while images are missing.
  std::vector<double> parts() const;

 private:
  std::int64_t count_, done_ = 0;
  std::vector<double> negative_entropy_;      // sums of p ln p, by part
  std::vector<std::vector<double>> classes_;  // sums of p, by part
};

/// Unbiased squared maximum mean discrepancy of x and y, both f64 [m,d], with the kernel (a . b / d + 1)^3 of Kernel
/// Inception Distance (Binkowski et al., arXiv 1801.01401). Throws ShapeError, ValueError for m < 2.
double squared_mmd(Context& ctx, const Tensor& x, const Tensor& y);

/// Kernel Inception Distance of x [n,d] and y [m,d]: squared_mmd of `subsets` random subsets of `size` rows of each,
/// drawn by Philox with the seed. Throws like squared_mmd, ValueError for a size above n or m.
std::vector<double> kernel_distances(Context& ctx, const Tensor& x, const Tensor& y, int subsets, std::int64_t size,
                                     std::uint64_t seed = 0);

}  // namespace llsa::nn

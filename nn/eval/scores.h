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

/// Inception Score (Salimans et al., arXiv 1606.03498): exp of the mean over images of KL(p(y|x) || p(y)), for each part
/// of the images by itself. How images are dealt to the parts is up to the caller.
class InceptionScore {
 public:
  /// Throws ValueError for fewer than one part.
  explicit InceptionScore(int parts = 10);

  /// Adds the logits f64 [n,C] of n images to a part; the memory does not grow. Throws ShapeError for another C than
  /// before, ValueError for a part that does not exist.
  void add(const Tensor& logits, std::int64_t part);

  /// The score of each part that has images.
  std::vector<double> parts() const;

 private:
  struct Part {
    std::int64_t count = 0;
    double negative_entropy = 0;  // the sum of p ln p
    std::vector<double> classes;  // the sum of p
  };
  std::vector<Part> parts_;
};

/// Unbiased squared maximum mean discrepancy of x and y, both f64 [m,d], with the kernel (a . b / d + 1)^3 of Kernel
/// Inception Distance (Binkowski et al., arXiv 1801.01401). Throws ShapeError, ValueError for m < 2.
double squared_mmd(Context& ctx, const Tensor& x, const Tensor& y);

/// Kernel Inception Distance of x [n,d] and y [m,d]: squared_mmd of `subsets` random subsets of `size` rows of each,
/// drawn by Philox with the seed. Throws like squared_mmd, ValueError for a size above n or m.
std::vector<double> kernel_distances(Context& ctx, const Tensor& x, const Tensor& y, int subsets,
                                     std::int64_t size, std::uint64_t seed = 0);

}  // namespace llsa::nn

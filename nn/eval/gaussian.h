// Gaussians fitted to features, and the Frechet distance between two of them:
//
//     d(a, b) = |mu_a - mu_b|^2 + tr S_a + tr S_b - 2 tr (S_a S_b)^(1/2)
//
// (Heusel et al., arXiv 1706.08500.) S is the covariance, with n - 1. It is kept as a triangular factor R, with
// R^T R = (n - 1) S, because the last trace is the sum of the singular values of R_a R_b^T / sqrt((n_a - 1)(n_b - 1)).
// The eigenvalues of S_a S_b would lose half of the digits where a covariance is nearly singular.
//
// Everything is f64, on the CPU.
#pragma once

#include <cstdint>

#include "../../core/context.h"

namespace llsa::nn {

class Gaussian {
 public:
  Gaussian() = default;
  /// Of features that were seen before: factor f64 [F,F], upper triangular, mean f64 [F]. Throws ShapeError.
  Gaussian(Tensor mean, Tensor factor, std::int64_t count);

  /// Adds the features f64 [n,F] of n images; the memory does not grow. Throws ShapeError for another F than before,
  /// NonFiniteError.
  void add(Context& ctx, const Tensor& features);

  std::int64_t count() const { return count_; }
  std::int64_t width() const { return mean_.defined() ? mean_.size(0) : 0; }
  const Tensor& mean() const { return mean_; }      ///< f64 [F]
  const Tensor& factor() const { return factor_; }  ///< f64 [F,F]

 private:
  Tensor mean_, factor_;
  std::int64_t count_ = 0;
};

/// d(a, b), where `ridge` is added to the diagonals of both covariances. Throws ShapeError for different widths,
/// ValueError for fewer than 2 images.
double frechet_distance(Context& ctx, const Gaussian& a, const Gaussian& b, double ridge = 0);

/// The sum of the singular values of a square matrix f64 [n,n]: Householder reflections make it bidiagonal, and
/// bisection finds the singular values of that, to about 1e-16 of the largest one.
double sum_of_singular_values(Context& ctx, const Tensor& matrix);

}  // namespace llsa::nn

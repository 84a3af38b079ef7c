// How far a set of generated images is from real ones, without a pretrained network: the Frechet distance
// between Gaussians fitted to random convolution features.
//
// The distance is that of gaussian.h, with 1e-6 added to the diagonals of the covariances. The features
// come from three 3x3 convolutions with stride 2, padding 1, 10 channels, no bias and ReLU, whose weights are
// N(0, 2 / fan_in) from Philox (seed 0, stream = layer). After each of them we take mean and standard
// deviation over the pixels of each channel, 60 numbers in all. The scale of d is that of the weights, so
// only ratios mean something: to the distance of real images from real ones, and to that of an untrained
// model.
#pragma once

#include <cstdint>
#include <vector>

#include "../../core/context.h"
#include "../../core/tensor.h"
#include "../data/image_folder.h"
#include "gaussian.h"

namespace llsa::nn {

inline constexpr int kFrechetFeatures = 60;

/// Features f64 [n,60] of images f32 [n,3,H,W], which are first clamped to [-1, 1] as in a picture file.
/// Works in small batches. Throws ShapeError for other shapes, NonFiniteError for a NaN.
Tensor frechet_features(Context& ctx, const Tensor& images);

/// Distance of two sets of features f64 [n,F], [m,F] with n, m >= 2. Throws ShapeError for other shapes,
/// NonFiniteError for features that are not finite.
double frechet_distance(Context& ctx, const Tensor& a, const Tensor& b);

/// Real images to score against: two disjoint random sets of a folder, chosen by Philox.
class FrechetReference {
 public:
  /// `count` is the number of generated images that will be scored, and the size of the second real set. The
  /// reference takes `reference` images, or what is left if the folder has fewer. Images are resized and
  /// cropped to height x width. Files that cannot be decoded are left out, see skipped(). Throws ValueError
  /// for fewer than count + min(count, reference) images, and for a count or reference below 2.
  FrechetReference(Context& ctx, const ImageFolder& folder, int height, int width, std::int64_t count = 256,
                   std::int64_t reference = 1024);

  /// Distance of images f32 [n,3,height,width] from the reference.
  double score(Context& ctx, const Tensor& images) const;
  /// The same of their features, which may have been collected batch by batch.
  double score_features(Context& ctx, const Tensor& features) const;
  /// Distance of `count` other real images from the reference: what a perfect model would reach.
  double real_score() const { return real_score_; }
  /// Images in the reference.
  std::int64_t reference_count() const { return reference_.count(); }
  /// Files that could not be decoded; others have taken their places.
  const std::vector<SkippedFile>& skipped() const { return skipped_; }

 private:
  int height_;
  int width_;
  Gaussian reference_;
  double real_score_ = 0;
  std::vector<SkippedFile> skipped_;
};

}  // namespace llsa::nn

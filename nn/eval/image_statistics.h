// What FID, Inception Score and KID need of a set of images. It is collected batch by batch, in memory that does not
// grow with the number of images, and can be kept in a file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "../callbacks.h"
#include "../data/image_folder.h"
#include "gaussian.h"
#include "inception.h"
#include "scores.h"

namespace llsa::nn {

/// How features come about. Sets are comparable only where all of this but the images agree.
struct FeatureOptions {
  InceptionResize resize = InceptionResize::aa;
  int height = 0, width = 0;  ///< images are resized to cover this size and cropped; 0 = as they are
};

class ImageStatistics {
 public:
  /// The features of this many images, the first ones, are kept for KID.
  static constexpr std::int64_t kKept = 5000;

  /// Adds what the network says of a batch; `ctx` is where it lies, `host` computes.
  void add(Context& ctx, Context& host, const InceptionOutput& output);

  std::int64_t count() const { return gaussian_.count(); }
  const Gaussian& gaussian() const { return gaussian_; }
  Tensor kept(Context& host) const;  ///< f64 [at most kKept,2048]
  /// Of ten parts (scores.h), to which the images were dealt in turn. Not of statistics from a file.
  MeanAndSpread inception_score() const { return mean_and_spread(score_.parts()); }

 private:
  friend void save_statistics(const std::string&, const ImageStatistics&, const Inception&,
                              const ImageFolder&, const FeatureOptions&);
  friend ImageStatistics load_statistics(const std::string&, const Inception&, const ImageFolder&,
                                         const FeatureOptions&);
  Gaussian gaussian_;
  std::vector<float> kept_;
  InceptionScore score_;
};

/// Of all images of a folder, in random order (Philox, seed 0). Files that cannot be decoded are left out and added to
/// `skipped`. Progress is counted in images; where should_stop ended the work, later images are missing.
ImageStatistics statistics_of(Context& ctx, Context& host, const Inception& network,
                              const ImageFolder& folder, const FeatureOptions& options,
                              std::vector<SkippedFile>* skipped, const Callbacks& callbacks = {});

/// The statistics of a folder as a safetensors file, with what they were made from: fingerprint of the folder and of
/// the weights, background and orientation, resize, size. Throws IoError.
void save_statistics(const std::string& path, const ImageStatistics& statistics, const Inception& network,
                     const ImageFolder& folder, const FeatureOptions& options);
/// Reads them. Throws IoError for a file that cannot be read or holds something else, ValueError if it was made from
/// other images, another resize, size or other weights, naming each difference.
ImageStatistics load_statistics(const std::string& path, const Inception& network, const ImageFolder& folder,
                                const FeatureOptions& options);

/// What load_statistics() reads from `file` if it exists; otherwise statistics_of(), which are saved there. An empty name
/// stands for no file. Nothing if should_stop ended the work.
std::optional<ImageStatistics> cached_statistics(const std::string& file, Context& ctx, Context& host,
                                                 const Inception& network, const ImageFolder& folder,
                                                 const FeatureOptions& options,
                                                 std::vector<SkippedFile>* skipped,
                                                 const Callbacks& callbacks = {});

/// Kernel Inception Distance: ten random subsets of 1,000 of the kept images of both, or of all if there are fewer.
MeanAndSpread kernel_inception_distance(Context& host, const ImageStatistics& a, const ImageStatistics& b);

}  // namespace llsa::nn

// The distance of images that a model draws to real ones, at each evaluation of a training run.
//
// The same images are drawn every time: their noise depends on the number of the image alone. So scores can be compared
// between the steps of a run, and between runs on the same images with the same options.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../../core/context.h"
#include "../../core/function_ref.h"
#include "../../core/tensor.h"
#include "../callbacks.h"
#include "../data/image_folder.h"
#include "../diffusion/sampler.h"
#include "../image_model.h"
#include "frechet.h"
#include "image_statistics.h"

namespace llsa::nn {

/// Draws options.count images, options.batch at a time, and passes each batch, copied to the CPU, to `take`. Progress is
/// counted in images. Returns false if should_stop ended it before all were drawn. Throws what ImageModel::draw() throws.
/// Several processes draw the batches in turn, as share_work() says, and the first one takes all.
bool draw_batches(ImageModel& model, const SampleOptions& options, const Callbacks& callbacks,
                  FunctionRef<void(const Tensor&)> take, Communicator& ranks = one_process());

struct DrawnScoreOptions {
  SampleOptions sampling = {};  ///< count: images to draw, at least 2
  std::string inception = {};   ///< weights of the Inception network, for FID; empty = random features
  /// With `inception`: file that keeps the statistics of the features of real images.
  std::string statistics = {};
};

/// Without Inception, `value` is the distance of random features (frechet.h), and `over_real` its ratio to the distance of
/// other real images. With Inception, `value` is FID, and there is no ratio.
struct DrawnScore {
  double value = 0;
  std::optional<double> over_real = {};
};

class DrawnScorer {
 public:
  /// Compares with the images of `folder`, resized to height x width, and computes on ctx. The random features of real
  /// images are computed here. Throws ValueError if there are fewer than 2 sampling.count real images, IoError for
  /// files. Of several processes, which share the drawing, the first one computes everything else.
  DrawnScorer(Context& ctx, std::shared_ptr<const ImageFolder> folder, int height, int width,
              const DrawnScoreOptions& options, Communicator& ranks = one_process());

  /// Returns nothing if should_stop ended it. With Inception, the first call computes the statistics of the real images,
  /// unless their file exists. Throws what drawing and load_statistics() throw. Of several processes the first one gets the
  /// score, the others an empty one.
  std::optional<DrawnScore> operator()(ImageModel& model, const Callbacks& callbacks = {});

  bool is_fid() const { return !options_.inception.empty(); }
  /// Real images that could not be decoded.
  const std::vector<SkippedFile>& skipped() const { return skipped_; }

 private:
  std::optional<DrawnScore> random_features(ImageModel& model, const Callbacks& callbacks);
  std::optional<DrawnScore> fid(ImageModel& model, const Callbacks& callbacks);

  Context& ctx_;
  Context host_;
  Communicator& ranks_;
  std::shared_ptr<const ImageFolder> folder_;
  DrawnScoreOptions options_;
  FeatureOptions features_;
  std::optional<FrechetReference> reference_;
  std::unique_ptr<Inception> network_;
  std::optional<ImageStatistics> real_;
  std::vector<SkippedFile> skipped_;
};

}  // namespace llsa::nn

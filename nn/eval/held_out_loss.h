// The flow loss (nn/diffusion/flow.h) of a model on images that it was not trained on; of a model that learns in stages
// (Denoiser::cascade) the mean of the cascade loss over all of them, for which every image is in every stage.
//
// Every image has noise and a noise level of its own, functions of its content (nn/data/held_out.h) and of
// nothing else. So losses can be compared between the steps of a run and between runs with different seeds,
// and they share no random number with training. Levels are uniform and errors are those of the flow, whatever the
// model is trained with, so that runs with different levels or losses can be compared, too.
// Images are cropped at the centre and not mirrored, and no
// class is dropped.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "../../core/communicator.h"
#include "../../core/context.h"
#include "../callbacks.h"
#include "../data/image_folder.h"
#include "../denoiser.h"
#include "../diffusion/flow.h"

namespace llsa::nn {

struct HeldOutLossOptions {
  std::int64_t images = 0;  ///< use this many of the folder's images, those with the smallest hashes; 0 = all
  std::int64_t batch = 8;   ///< images at a time; the loss is the same whatever it is, up to rounding
  double noise_scale = 0;   ///< s; 0 = noise_rescale of the image's size
};

class HeldOutLoss {
 public:
  /// Throws ValueError for options outside their range.
  HeldOutLoss(std::shared_ptr<const ImageFolder> folder, const HeldOutLossOptions& options);

  /// The mean over the images, computed batch by batch without a graph. Nothing when should_stop, which is
  /// asked between two batches, has ended it; progress is counted in images. Files that cannot be decoded are
  /// left out, from then on. Throws IoError when that are all, and what flow_loss() throws. Several processes compute the
  /// batches in turn, as share_work() says, and the first one gets their mean, with the same bits; the others get 0.
  std::optional<double> operator()(Context& ctx, const Denoiser& model, const Callbacks& callbacks = {},
                                   Communicator& ranks = one_process());

  const ImageFolder& folder() const { return *folder_; }
  /// Images that are used.
  std::int64_t size() const { return static_cast<std::int64_t>(images_.size()); }
  /// Files that could not be decoded so far, each once.
  const std::vector<SkippedFile>& skipped() const { return skipped_; }

 private:
  Tensor load(Context& host, const Denoiser& model, std::size_t begin);
  Var loss(Context& ctx, const Denoiser& model, const Tensor& images, std::size_t begin) const;

  std::shared_ptr<const ImageFolder> folder_;
  HeldOutLossOptions options_;
  FlowOptions flow_;
  std::vector<std::int64_t> images_;  // indices into the folder
  std::vector<SkippedFile> skipped_;
};

}  // namespace llsa::nn

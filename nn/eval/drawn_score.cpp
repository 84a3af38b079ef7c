#include "nn/eval/drawn_score.h"

#include <algorithm>
#include <utility>

#include "core/text_file.h"
#include "kernels/copy.h"
#include "kernels/make.h"
#include "nn/data/transform.h"

namespace llsa::nn {

bool draw_batches(ImageModel& model, const SampleOptions& options, const Callbacks& callbacks,
                  FunctionRef<void(const Tensor&)> take) {
  Context& ctx = model.context();
  const Callbacks stopping = {.should_stop = callbacks.should_stop};
  SampleOptions part = options;
  for (std::int64_t done = 0; done < options.count; done += part.count) {
    part.first = options.first + done;
    part.count = std::min(options.batch, options.count - done);
    const Tensor images = model.draw(part, stopping);
    if (images.size(0) < part.count) return false;
    take(to_host(ctx, images));
    if (callbacks.on_progress) callbacks.on_progress(done + part.count, options.count);
  }
  return true;
}

DrawnScorer::DrawnScorer(Context& ctx, std::shared_ptr<const ImageFolder> folder, int height, int width,
                         const DrawnScoreOptions& options)
    : ctx_(ctx),
      host_(ctx.pool().threads()),
      folder_(std::move(folder)),
      options_(options),
      features_{.height = height, .width = width} {
  if (options_.inception.empty()) {
    reference_.emplace(host_, *folder_, height, width, options_.sampling.count);
    skipped_ = reference_->skipped();
  } else {
    network_ = std::make_unique<Inception>(ctx, options_.inception);
  }
}

std::optional<DrawnScore> DrawnScorer::operator()(ImageModel& model, const Callbacks& callbacks) {
  return is_fid() ? fid(model, callbacks) : random_features(model, callbacks);
}

std::optional<DrawnScore> DrawnScorer::random_features(ImageModel& model, const Callbacks& callbacks) {
  std::vector<Tensor> features;
  if (!draw_batches(model, options_.sampling, callbacks,
                    [&](const Tensor& images) { features.push_back(frechet_features(host_, images)); }))
    return std::nullopt;
  const double score = reference_->score_features(host_, kernels::concat(host_, features, 0));
  return DrawnScore{score, score / reference_->real_score()};
}

std::optional<DrawnScore> DrawnScorer::fid(ImageModel& model, const Callbacks& callbacks) {
  const std::string& file = options_.statistics;
  if (!real_ && !file.empty() && path_exists(file))
    real_ = load_statistics(file, *network_, *folder_, features_);
  if (!real_) {
    ImageStatistics real = statistics_of(ctx_, host_, *network_, *folder_, features_, &skipped_, callbacks);
    if (callbacks.should_stop && callbacks.should_stop()) return std::nullopt;
    if (!file.empty()) save_statistics(file, real, *network_, *folder_, features_);
    real_ = std::move(real);
  }
  ImageStatistics drawn;
  if (!draw_batches(model, options_.sampling, callbacks, [&](const Tensor& images) {
        drawn.add(ctx_, host_, (*network_)(from_host(ctx_, levels_of(host_, images)), features_.resize));
      }))
    return std::nullopt;
  return DrawnScore{frechet_distance(host_, drawn.gaussian(), real_->gaussian())};
}

}  // namespace llsa::nn

#include "nn/eval/drawn_score.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "kernels/copy.h"
#include "kernels/make.h"
#include "nn/data/transform.h"
#include "nn/share_work.h"

namespace llsa::nn {

bool draw_batches(ImageModel& model, const SampleOptions& options, const Callbacks& callbacks,
                  FunctionRef<void(const Tensor&)> take, Communicator& ranks) {
  Context& ctx = model.context();
  const Callbacks stopping = {.should_stop = callbacks.should_stop};
  using Extents = std::array<std::int64_t, 4>;
  // A batch as a text: the extents, then the floats.
  const auto draw = [&](std::int64_t batch) -> std::optional<std::string> {
    SampleOptions part = options;
    part.first = options.first + batch * options.batch;
    part.count = std::min(options.batch, options.count - batch * options.batch);
    const Tensor images = to_host(ctx, model.draw(part, stopping));
    if (images.size(0) < part.count) return std::nullopt;
    const Extents extents = {images.size(0), images.size(1), images.size(2), images.size(3)};
    std::string text(sizeof extents + images.nbytes(), '\0');
    std::memcpy(text.data(), extents.data(), sizeof extents);
    std::memcpy(text.data() + sizeof extents, images.data<float>(), images.nbytes());
    return text;
  };
  std::int64_t done = 0;
  const auto take_text = [&](const std::string& text) {
    Extents extents = {};
    std::memcpy(extents.data(), text.data(), sizeof extents);
    const Tensor images = Tensor::empty(Shape({extents[0], extents[1], extents[2], extents[3]}), DType::f32,
                                        make_cpu_allocator());
    std::memcpy(images.raw(), text.data() + sizeof extents, images.nbytes());
    take(images);
    done += extents[0];
    if (callbacks.on_progress) callbacks.on_progress(done, options.count);
  };
  return share_work(ranks, (options.count + options.batch - 1) / options.batch, draw, take_text);
}

DrawnScorer::DrawnScorer(Context& ctx, std::shared_ptr<const ImageFolder> folder, int height, int width,
                         const DrawnScoreOptions& options, Communicator& ranks)
    : ctx_(ctx),
      host_(ctx.pool().threads()),
      ranks_(ranks),
      folder_(std::move(folder)),
      options_(options),
      features_{.height = height, .width = width} {
  if (!ranks_.leads()) return;
  if (!is_fid()) {
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
  const auto take = [&](const Tensor& images) { features.push_back(frechet_features(host_, images)); };
  if (!draw_batches(model, options_.sampling, callbacks, take, ranks_)) return std::nullopt;
  if (!ranks_.leads()) return DrawnScore{};
  const double score = reference_->score_features(host_, kernels::concat(host_, features, 0));
  return DrawnScore{score, score / reference_->real_score()};
}

std::optional<DrawnScore> DrawnScorer::fid(ImageModel& model, const Callbacks& callbacks) {
  const auto prepare = [&](std::int64_t) {
    if (!real_)
      real_ = cached_statistics(options_.statistics, ctx_, host_, *network_, *folder_, features_, &skipped_,
                                callbacks);
    return real_ ? std::optional(std::string()) : std::nullopt;
  };
  if (!share_work(ranks_, 1, prepare, [](const std::string&) {})) return std::nullopt;
  ImageStatistics drawn;
  const auto take = [&](const Tensor& images) {
    drawn.add(ctx_, host_, (*network_)(from_host(ctx_, levels_of(host_, images)), features_.resize));
  };
  if (!draw_batches(model, options_.sampling, callbacks, take, ranks_)) return std::nullopt;
  if (!ranks_.leads()) return DrawnScore{};
  return DrawnScore{frechet_distance(host_, drawn.gaussian(), real_->gaussian())};
}

}  // namespace llsa::nn

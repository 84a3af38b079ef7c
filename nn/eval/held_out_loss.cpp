#include "nn/eval/held_out_loss.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "kernels/make.h"
#include "nn/data/held_out.h"
#include "nn/data/transform.h"
#include "nn/diffusion/cascade.h"
#include "nn/init.h"
#include "nn/share_work.h"

namespace llsa::nn {

HeldOutLoss::HeldOutLoss(std::shared_ptr<const ImageFolder> folder, const HeldOutLossOptions& options)
    : folder_(std::move(folder)),
      options_(options),
      // Random numbers are keyed by seed and sample. This seed keeps them apart from those of a run.
      flow_{.class_drop = 0, .noise_scale = options.noise_scale, .seed = name_stream("held-out loss")} {
  if (options.images < 0 || options.batch < 1)
    throw ValueError(cat("[held-out loss] expected at least 0 images and a batch of at least 1, got ",
                         options.images, " and ", options.batch));
  std::vector<std::pair<std::uint64_t, std::int64_t>> by_hash;
  for (std::int64_t i = 0; i < folder_->size(); ++i) by_hash.emplace_back(image_hash(folder_->entry(i)), i);
  std::sort(by_hash.begin(), by_hash.end());
  if (options.images > 0 && options.images < folder_->size())
    by_hash.resize(static_cast<std::size_t>(options.images));
  for (const auto& image : by_hash) images_.push_back(image.second);
}

// The images from `begin` on, one batch. Those that cannot be decoded leave the set; the tensor is undefined
// when that are all.
Tensor HeldOutLoss::load(Context& host, const Denoiser& model, std::size_t begin) {
  const auto first = images_.begin() + static_cast<std::ptrdiff_t>(begin);
  const auto count = std::min<std::ptrdiff_t>(options_.batch, images_.end() - first);
  const std::size_t known = skipped_.size();
  const Tensor images = load_images(host, *folder_, {first, first + count}, static_cast<int>(model.height),
                                    static_cast<int>(model.width), &skipped_);
  for (std::size_t i = known; i < skipped_.size(); ++i)
    std::erase_if(images_,
                  [&](std::int64_t index) { return folder_->entry(index).path == skipped_[i].path; });
  return images;
}

// The mean over the images, which are a batch from `begin` on.
Var HeldOutLoss::loss(Context& ctx, const Denoiser& model, const Tensor& images, std::size_t begin) const {
  std::vector<std::int32_t> classes;
  std::vector<std::int64_t> ids;
  for (std::size_t i = begin; i < begin + static_cast<std::size_t>(images.size(0)); ++i) {
    classes.push_back(folder_->entry(images_[i]).label);
    ids.push_back(static_cast<std::int64_t>(image_hash(folder_->entry(images_[i]))));
  }
  const Tensor x = ctx.empty(images.shape(), DType::f32);
  ctx.upload(images.data<float>(), x);
  const Shape one_each{images.size(0)};
  const Tensor y = kernels::from_vector(ctx, classes, one_each),
               sample_ids = kernels::from_vector(ctx, ids, one_each);
  if (!model.cascade) return flow_loss(ctx, model, make_flow_batch(ctx, x, y, sample_ids, flow_));
  return cascade_loss(ctx, model,
                      make_full_cascade_batch(ctx, x, y, sample_ids, {.class_drop = 0, .seed = flow_.seed}));
}

std::optional<double> HeldOutLoss::operator()(Context& ctx, const Denoiser& model, const Callbacks& callbacks,
                                              Communicator& ranks) {
  const NoGrad no_grad;
  // The sums over the batches r, r + W, .. of rank r. All processes load all images, so that they agree on the batches.
  const auto sums_of = [&](std::int64_t rank) -> std::optional<std::string> {
    Context host(ctx.pool().threads());  // decodes the images
    std::string sums;
    std::int64_t batch = 0;
    for (std::size_t done = 0; done < images_.size();) {
      const Tensor images = load(host, model, done);
      if (!images.defined()) continue;
      if (batch++ % ranks.size() == rank) {
        const double sum = static_cast<double>(images.size(0)) * loss(ctx, model, images, done).item();
        sums.append(reinterpret_cast<const char*>(&sum), sizeof sum);
      }
      done += static_cast<std::size_t>(images.size(0));
      if (callbacks.on_progress) callbacks.on_progress(static_cast<std::int64_t>(done), size());
      if (done < images_.size() && callbacks.should_stop && callbacks.should_stop()) return std::nullopt;
    }
    if (images_.empty())
      throw IoError(cat("[held-out loss] none of the images in ", folder_->root(),
                        " can be decoded; the first: ", skipped_.at(0).path, ": ", skipped_.at(0).reason));
    return sums;
  };
  std::vector<std::vector<double>> sums;  // by rank
  const auto take = [&](const std::string& bytes) {
    std::vector<double>& own = sums.emplace_back(bytes.size() / sizeof(double));
    std::memcpy(own.data(), bytes.data(), bytes.size());
  };
  if (!share_work(ranks, ranks.size(), sums_of, take)) return std::nullopt;
  double sum = 0;
  for (std::size_t batch = 0; !sums.empty() && batch / sums.size() < sums[batch % sums.size()].size();
       ++batch)
    sum += sums[batch % sums.size()][batch / sums.size()];
  return sum / static_cast<double>(images_.size());
}

}  // namespace llsa::nn

#include "nn/eval/image_statistics.h"

#include <algorithm>
#include <map>
#include <utility>

#include "core/error.h"
#include "core/number.h"
#include "core/philox.h"
#include "core/safetensors.h"
#include "core/text_file.h"
#include "kernels/copy.h"
#include "kernels/make.h"
#include "nn/data/transform.h"

namespace llsa::nn {
namespace {

constexpr std::int64_t kBatch = 16;  // images that the network sees at a time
constexpr std::uint64_t kOrderStream = 0x7374617469737469u;
constexpr int kSubsets = 10;
constexpr std::int64_t kSubsetSize = 1000;

/// The levels of a picture, resized and cropped as in training, or unchanged.
Tensor levels_from(Context& host, const ImageFolder& folder, std::int64_t index,
                   const FeatureOptions& options) {
  if (options.height == 0) return levels_of(host, folder.load(index));
  return levels_of(host, load_images(host, folder, {index}, options.height, options.width));
}

std::map<std::string, std::string> description(const Inception& network, const ImageFolder& folder,
                                               const FeatureOptions& options) {
  const Rgb background = folder.decode().background;
  return {
      {"images", cat(folder.size(), " with the fingerprint ", folder.fingerprint())},
      {"decoded", cat("over (", int{background[0]}, ", ", int{background[1]}, ", ", int{background[2]},
                      folder.decode().exif ? "), upright" : "), as stored")},
      {"size", options.height == 0 ? std::string("as they are") : cat(options.height, " x ", options.width)},
      {"resize", name_of(options.resize)},
      {"weights", cat(network.fingerprint())}};
}

}  // namespace

void ImageStatistics::add(Context& ctx, Context& host, const InceptionOutput& output) {
  const Tensor features = to_host(ctx, output.features), logits = to_host(ctx, output.logits);
  const Tensor wide = kernels::cast(host, logits, DType::f64);
  for (std::int64_t i = 0; i < wide.size(0); ++i) score_.add(wide.slice(0, i, i + 1), (count() + i) % 10);
  gaussian_.add(host, kernels::cast(host, features, DType::f64));
  const std::int64_t kept = static_cast<std::int64_t>(kept_.size()) / Inception::kFeatures;
  const std::int64_t more = std::min(features.size(0), kKept - kept);
  kept_.insert(kept_.end(), features.data<float>(), features.data<float>() + more * Inception::kFeatures);
}

Tensor ImageStatistics::kept(Context& host) const {
  const std::int64_t n = static_cast<std::int64_t>(kept_.size()) / Inception::kFeatures;
  return kernels::cast(host, kernels::from_vector(host, kept_, {n, Inception::kFeatures}), DType::f64);
}

ImageStatistics statistics_of(Context& ctx, Context& host, const Inception& network,
                              const ImageFolder& folder, const FeatureOptions& options,
                              std::vector<SkippedFile>* skipped, const Callbacks& callbacks) {
  ImageStatistics statistics;
  std::vector<Tensor> batch;  // levels [1,3,H,W] of one size
  const auto flush = [&] {
    if (batch.empty()) return;
    const Tensor levels = kernels::concat(host, batch, 0);
    statistics.add(ctx, host, network(from_host(ctx, levels), options.resize));
    batch.clear();
  };
  std::int64_t done = 0;
  for (const std::int64_t index : random_order<std::int64_t>({0, kOrderStream}, folder.size())) {
    ++done;
    try {
      const Tensor levels = levels_from(host, folder, index, options);
      if (!batch.empty() && !(batch.front().shape() == levels.shape())) flush();
      batch.push_back(levels);
    } catch (const IoError& error) {
      if (skipped) skipped->push_back({folder.entry(index).path, error.what()});
    }
    if (static_cast<std::int64_t>(batch.size()) == kBatch) flush();
    if (callbacks.on_progress) callbacks.on_progress(done, folder.size());
    if (callbacks.should_stop && callbacks.should_stop()) break;
  }
  flush();
  return statistics;
}

void save_statistics(const std::string& path, const ImageStatistics& statistics, const Inception& network,
                     const ImageFolder& folder, const FeatureOptions& options) {
  Context host(1);
  auto metadata = description(network, folder, options);
  metadata["kind"] = "image statistics";
  metadata["count"] = std::to_string(statistics.count());
  const std::int64_t kept = static_cast<std::int64_t>(statistics.kept_.size()) / Inception::kFeatures;
  write_safetensors(path,
                    {{"mean", statistics.gaussian_.mean()},
                     {"factor", statistics.gaussian_.factor()},
                     {"kept", kernels::from_vector(host, statistics.kept_, {kept, Inception::kFeatures})}},
                    metadata);
}

ImageStatistics load_statistics(const std::string& path, const Inception& network, const ImageFolder& folder,
                                const FeatureOptions& options) {
  const SafetensorsFile file(path);
  const auto stored = [&](const std::string& key) {
    const auto found = file.metadata().find(key);
    return found == file.metadata().end() ? std::string() : found->second;
  };
  if (stored("kind") != "image statistics")
    throw IoError(cat(path, " does not hold statistics of images"),
                  "give a file that llsa eval has written, or a new name");
  std::string differences;
  for (const auto& [key, value] : description(network, folder, options))
    if (stored(key) != value) differences += cat("\n  ", key, ": the file's ", stored(key), ", now ", value);
  if (!differences.empty())
    throw ValueError(cat(path, " holds the statistics of something else:", differences),
                     "give another file, which is then made");
  const auto count = as_number<std::int64_t>(stored("count"));
  if (!count || *count < 1)
    throw IoError(cat(path, ": expected a count of images in the metadata, got \"", stored("count"), '"'));
  Context host(1);
  ImageStatistics statistics;
  statistics.gaussian_ =
      Gaussian(kernels::clone(host, file.at("mean")), kernels::clone(host, file.at("factor")), *count);
  statistics.kept_ = kernels::to_vector<float>(host, file.at("kept"));
  return statistics;
}

std::optional<ImageStatistics> cached_statistics(const std::string& file, Context& ctx, Context& host,
                                                 const Inception& network, const ImageFolder& folder,
                                                 const FeatureOptions& options,
                                                 std::vector<SkippedFile>* skipped,
                                                 const Callbacks& callbacks) {
  if (!file.empty() && path_exists(file)) return load_statistics(file, network, folder, options);
  ImageStatistics statistics = statistics_of(ctx, host, network, folder, options, skipped, callbacks);
  if (callbacks.should_stop && callbacks.should_stop()) return std::nullopt;
  if (!file.empty()) save_statistics(file, statistics, network, folder, options);
  return statistics;
}

MeanAndSpread kernel_inception_distance(Context& host, const ImageStatistics& a, const ImageStatistics& b) {
  const Tensor x = a.kept(host), y = b.kept(host);
  const std::int64_t size = std::min({kSubsetSize, x.size(0), y.size(0)});
  return mean_and_spread(kernel_distances(host, x, y, kSubsets, size));
}

}  // namespace llsa::nn

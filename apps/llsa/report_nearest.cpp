#include "apps/llsa/report_nearest.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/philox.h"
#include "nn/data/grid.h"
#include "nn/data/orientation.h"
#include "nn/data/transform.h"
#include "nn/eval/frechet.h"

namespace llsa::apps {
namespace {

constexpr int kSmallSide = 16;
constexpr std::size_t kImagesAtATime = 32;
constexpr std::size_t kPixels = 0, kFeatures = 1;          // places in kDistanceNames
constexpr std::uint64_t kOrderStream = 0x6e656172657374u;  // "nearest"

/// The two descriptions of an image: each distance is the Euclidean distance of such vectors.
using Descriptors = std::array<std::vector<float>, kDistanceNames.size()>;

Descriptors describe(Context& ctx, const nn::Image& image) {
  Descriptors descriptors;
  const nn::Image small =
      nn::resize(image, std::min(image.width, kSmallSide), std::min(image.height, kSmallSide));
  const float scale = 1 / (255 * std::sqrt(static_cast<float>(small.pixels.size())));
  for (const std::uint8_t value : small.pixels)
    descriptors[kPixels].push_back(scale * static_cast<float>(value));
  Tensor tensor = ctx.empty({1, 3, image.height, image.width}, DType::f32);
  nn::crop_to_floats(image, {.height = image.height, .width = image.width}, 0, 0, tensor.data<float>());
  const Tensor features = nn::frechet_features(ctx, tensor);
  for (std::int64_t i = 0; i < features.numel(); ++i)
    descriptors[kFeatures].push_back(static_cast<float>(features.data<double>()[i]));
  return descriptors;
}

nn::Image mirror(const nn::Image& image) { return nn::upright(image, 2); }

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum);
}

class Search {
 public:
  Search(Context& ctx, const nn::ImageFolder& folder, int width, int height, std::int64_t most)
      : ctx_(ctx), folder_(folder), width_(width), height_(height) {
    const auto order = random_order<std::int64_t>({0, kOrderStream}, folder.size());
    for (std::size_t next = 0; next < order.size() && size() < most;) {
      std::vector<std::int64_t> chosen;
      while (chosen.size() < kImagesAtATime && next < order.size() &&
             size() + static_cast<std::int64_t>(chosen.size()) < most)
        chosen.push_back(order[next++]);
      add(chosen);
    }
    if (indices_.size() < 2)
      throw ValueError(
          cat("expected at least 2 usable images in ", folder.root(), ", got ", indices_.size()));
    measure_features();
    for (Descriptors& one : descriptors_) scale(one);
  }

  std::int64_t size() const { return static_cast<std::int64_t>(indices_.size()); }

  struct Found {
    std::size_t at = 0;
    double distance = std::numeric_limits<double>::infinity();
  };
  /// The nearest training image by each distance. The image `left_out` does not count.
  std::array<Found, kDistanceNames.size()> nearest(const nn::Image& to, bool mirrored,
                                                   std::size_t left_out) const {
    std::array<Found, kDistanceNames.size()> best;
    // The mirror image of A is as far from B as A is from the mirror image of B, so only the sample is mirrored.
    for (const nn::Image& image : mirrored ? std::vector{to, mirror(to)} : std::vector{to}) {
      Descriptors wanted = describe(ctx_, image);
      scale(wanted);
      for (std::size_t kind = 0; kind < best.size(); ++kind)
        for (std::size_t i = 0; i < descriptors_.size(); ++i)
          if (const double d = distance(descriptors_[i][kind], wanted[kind]);
              i != left_out && d < best[kind].distance)
            best[kind] = {i, d};
    }
    return best;
  }

  nn::Image image(std::size_t i) const {
    return nn::to_image(nn::load_images(ctx_, folder_, {indices_[i]}, height_, width_).select(0, 0));
  }
  const std::string& path(std::size_t i) const { return folder_.entry(indices_[i]).path; }

 private:
  void add(const std::vector<std::int64_t>& chosen) {
    std::vector<nn::SkippedFile> left_out;
    const Tensor images = nn::load_images(ctx_, folder_, chosen, height_, width_, &left_out);
    if (!left_out.empty()) {  // one by one it is known which
      if (chosen.size() > 1)
        for (const std::int64_t index : chosen) add({index});
      return;
    }
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      indices_.push_back(chosen[i]);
      descriptors_.push_back(describe(ctx_, nn::to_image(images.select(0, static_cast<std::int64_t>(i)))));
    }
  }

  void measure_features() {
    const auto n = static_cast<double>(descriptors_.size());
    for (std::size_t f = 0; f < descriptors_[0][kFeatures].size(); ++f) {
      double sum = 0, squares = 0;
      for (const Descriptors& one : descriptors_) sum += one[kFeatures][f];
      for (const Descriptors& one : descriptors_) squares += std::pow(one[kFeatures][f] - sum / n, 2);
      deviations_.push_back(static_cast<float>(std::sqrt(squares / n)));
    }
  }

  // A feature that is the same in all images is set to 0: it tells nothing.
  void scale(Descriptors& one) const {
    for (std::size_t f = 0; f < deviations_.size(); ++f)
      one[kFeatures][f] = deviations_[f] > 0 ? one[kFeatures][f] / deviations_[f] : 0;
  }

  Context& ctx_;
  const nn::ImageFolder& folder_;
  int width_, height_;
  std::vector<std::int64_t> indices_;
  std::vector<Descriptors> descriptors_;
  std::vector<float> deviations_;
};

}  // namespace

NearestImages find_nearest(Context& ctx, const nn::ImageFolder& folder, const std::vector<nn::Image>& samples,
                           bool mirrored, std::int64_t most) {
  if (samples.empty()) throw ValueError("expected at least one sample");
  const Search search(ctx, folder, samples[0].width, samples[0].height, most);
  NearestImages result;
  result.searched = search.size();
  std::array<std::vector<double>, kDistanceNames.size()> usual;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const auto found = search.nearest(samples[i], mirrored, SIZE_MAX);
    Neighbours& neighbours = result.of_samples.emplace_back();
    for (std::size_t kind = 0; kind < found.size(); ++kind)
      neighbours[kind] = {search.path(found[kind].at), search.image(found[kind].at), found[kind].distance};
    if (static_cast<std::int64_t>(i) >= search.size()) continue;
    const auto other = search.nearest(search.image(i), mirrored, i);
    for (std::size_t kind = 0; kind < other.size(); ++kind) usual[kind].push_back(other[kind].distance);
  }
  for (std::size_t kind = 0; kind < usual.size(); ++kind) {
    std::sort(usual[kind].begin(), usual[kind].end());
    result.usual[kind] = usual[kind][usual[kind].size() / 2];
  }
  return result;
}

}  // namespace llsa::apps

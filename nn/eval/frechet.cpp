// Features by the library's own convolution; means and deviations over the pixels in double.
#include "nn/eval/frechet.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/error.h"
#include "core/philox.h"
#include "kernels/conv.h"
#include "kernels/elementwise.h"
#include "nn/data/transform.h"

namespace llsa::nn {

namespace {

constexpr int kLayers = 3;
constexpr int kChannels = 10;
constexpr std::uint64_t kWeightSeed = 0;
constexpr double kRidge = 1e-6;
constexpr std::int64_t kPixelsPerPass = std::int64_t{1} << 16;  // bounds the memory of a pass over the layers
constexpr std::uint64_t kSplitStream = 0x6672656368657400u;     // "frechet"

/// The Gaussian of features [n,F], n >= 2.
Gaussian fit(Context& ctx, const Tensor& features) {
  if (features.rank() != 2 || features.size(0) < 2)
    throw ShapeError(cat("[frechet] expected features [n,F] with n >= 2, got ", features.shape()));
  Gaussian gaussian;
  gaussian.add(ctx, features);
  return gaussian;
}

/// Weights of the three layers, [10,c,3,3] each.
std::vector<Tensor> make_weights(Context& ctx) {
  std::vector<Tensor> weights;
  std::int64_t channels = 3;
  for (int layer = 0; layer < kLayers; ++layer) {
    Tensor w = ctx.empty({kChannels, channels, 3, 3}, DType::f32);
    const Philox random{kWeightSeed, static_cast<std::uint64_t>(layer)};
    const float scale = std::sqrt(2.0f / static_cast<float>(channels * 9));
    for (std::int64_t i = 0; i < w.numel(); ++i)
      w.data<float>()[i] = scale * random.normal(static_cast<std::uint64_t>(i));
    weights.push_back(w);
    channels = kChannels;
  }
  return weights;
}

/// Mean and standard deviation over the pixels of every channel: x[b,10,h,w] -> row i of `out`, columns first
/// .. first + 19.
void append_statistics(const Tensor& x, double* out, int first) {
  const std::int64_t pixels = x.size(2) * x.size(3);
  for (std::int64_t i = 0; i < x.size(0); ++i) {
    for (int c = 0; c < kChannels; ++c) {
      const float* data = x.data<float>() + (i * kChannels + c) * pixels;
      double sum = 0;
      for (std::int64_t p = 0; p < pixels; ++p) sum += data[p];
      const double mean = sum / static_cast<double>(pixels);
      double squares = 0;
      for (std::int64_t p = 0; p < pixels; ++p) squares += (data[p] - mean) * (data[p] - mean);
      double* row = out + i * kFrechetFeatures + first;
      row[c] = mean;
      row[kChannels + c] = std::sqrt(squares / static_cast<double>(pixels));
    }
  }
}

/// Images [b,3,H,W] with any strides, contiguous and clamped. Throws NonFiniteError for a NaN.
Tensor clamped(Context& ctx, const Tensor& images) {
  Tensor out = ctx.empty(images.shape(), DType::f32);
  const auto& s = images.strides();
  float* to = out.data<float>();
  for (std::int64_t i = 0; i < images.size(0); ++i) {
    for (std::int64_t c = 0; c < 3; ++c) {
      for (std::int64_t y = 0; y < images.size(2); ++y) {
        const float* from = images.data<float>() + i * s[0] + c * s[1] + y * s[2];
        for (std::int64_t x = 0; x < images.size(3); ++x) {
          const float value = from[x * s[3]];
          if (std::isnan(value)) throw NonFiniteError(cat("[frechet] image ", i, " of a pass holds a NaN"));
          *to++ = std::clamp(value, -1.0f, 1.0f);
        }
      }
    }
  }
  return out;
}

}  // namespace

Tensor frechet_features(Context& ctx, const Tensor& images) {
  if (images.rank() != 4 || images.size(1) != 3 || images.numel() == 0) {
    throw ShapeError(cat("[frechet] expected images [n,3,H,W], got ", images.shape()));
  }
  if (!images.device().is_cpu())
    throw DeviceError(cat("[frechet] expected a tensor on the cpu, got one on ", images.device().str()));
  const std::vector<Tensor> weights = make_weights(ctx);
  const std::int64_t n = images.size(0);
  const std::int64_t per_pass = std::max<std::int64_t>(1, kPixelsPerPass / (images.size(2) * images.size(3)));
  Tensor features = ctx.empty({n, kFrechetFeatures}, DType::f64);
  for (std::int64_t begin = 0; begin < n; begin += per_pass) {
    Tensor x = clamped(ctx, images.slice(0, begin, std::min(n, begin + per_pass)));  // [b,3,H,W]
    for (int layer = 0; layer < kLayers; ++layer) {
      x = kernels::relu(
          ctx, kernels::conv2d(ctx, x, weights[static_cast<std::size_t>(layer)], Tensor(), {2, 2}, {1, 1}));
      append_statistics(x, features.data<double>() + begin * kFrechetFeatures, layer * 2 * kChannels);
    }
  }
  return features;
}

double frechet_distance(Context& ctx, const Tensor& a, const Tensor& b) {
  return frechet_distance(ctx, fit(ctx, a), fit(ctx, b), kRidge);
}

FrechetReference::FrechetReference(Context& ctx, const ImageFolder& folder, int height, int width,
                                   std::int64_t count, std::int64_t reference)
    : height_(height), width_(width) {
  if (count < 2 || reference < 2)
    throw ValueError(cat("[frechet] count ", count, ", reference ", reference, ": expected at least 2"));
  const auto order = random_order<std::int64_t>({0, kSplitStream}, folder.size());

  // Images are taken one after the other until there are enough. The first ones become the other real set.
  const std::int64_t wanted = std::min(folder.size(), count + reference);
  std::vector<Tensor> passes;
  Tensor features = ctx.empty({wanted, kFrechetFeatures}, DType::f64);
  std::int64_t done = 0;
  std::size_t next = 0;
  const std::int64_t per_pass = std::max<std::int64_t>(1, kPixelsPerPass / (std::int64_t{height} * width));
  while (done < wanted && next < order.size()) {
    std::vector<std::int64_t> chosen;
    while (static_cast<std::int64_t>(chosen.size()) < std::min(per_pass, wanted - done) &&
           next < order.size())
      chosen.push_back(order[next++]);
    const Tensor images = load_images(ctx, folder, chosen, height, width, &skipped_);
    if (!images.defined()) continue;
    const Tensor some = frechet_features(ctx, images);
    std::copy_n(some.data<double>(), some.numel(), features.data<double>() + done * kFrechetFeatures);
    done += some.size(0);
  }
  const std::int64_t needed = count + std::min(count, reference);
  if (done < needed) {
    throw ValueError(cat("[frechet] ", folder.root(), " has ", done, " usable images, ", needed,
                         " are needed for a count of ", count),
                     "score fewer drawn images, or add real ones");
  }
  reference_ = fit(ctx, features.slice(0, count, done));
  real_score_ = frechet_distance(ctx, fit(ctx, features.slice(0, 0, count)), reference_, kRidge);
}

double FrechetReference::score(Context& ctx, const Tensor& images) const {
  if (images.rank() != 4 || images.size(2) != height_ || images.size(3) != width_) {
    throw ShapeError(cat("[frechet] expected images [n,3,", height_, ",", width_, "], got ", images.shape()));
  }
  return score_features(ctx, frechet_features(ctx, images));
}

double FrechetReference::score_features(Context& ctx, const Tensor& features) const {
  return frechet_distance(ctx, fit(ctx, features), reference_, kRidge);
}

}  // namespace llsa::nn

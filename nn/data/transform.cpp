// Separable resampling: one table of weights per axis, rows first, then columns.
#include "nn/data/transform.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "core/error.h"
#include "core/philox.h"

namespace llsa::nn {

namespace {

constexpr std::uint64_t kAugmentStream =
    0x6175676d656e7400u;  // "augment": keeps these draws apart from other uses of the seed

constexpr double kMaxResized = 64e6;  // pixels: a strip of 1 x 60000 made 64 wide would have 245 million

/// For every output pixel the first input pixel and the weights from there on.
struct Taps {
  std::vector<int> first;
  std::vector<int> count;
  std::vector<float> weights;  // `widest` per output pixel
  int widest = 0;
};

Taps make_taps(int in, int out) {
  const double step = static_cast<double>(in) / out;
  const double support = std::max(step, 1.0);  // half the width of the triangle, in input pixels
  Taps taps;
  taps.widest = static_cast<int>(std::ceil(support)) * 2 + 1;
  taps.weights.assign(static_cast<std::size_t>(out) * static_cast<std::size_t>(taps.widest), 0.0f);
  for (int i = 0; i < out; ++i) {
    const double centre = (i + 0.5) * step;
    const int begin = std::max(0, static_cast<int>(centre - support + 0.5));
    const int end = std::min(in, static_cast<int>(centre + support + 0.5));
    std::vector<double> raw;
    double sum = 0;
    for (int j = begin; j < end; ++j) {
      raw.push_back(std::max(0.0, 1.0 - std::abs(j + 0.5 - centre) / support));
      sum += raw.back();
    }
    float* weights =
        taps.weights.data() + static_cast<std::size_t>(i) * static_cast<std::size_t>(taps.widest);
    for (std::size_t k = 0; k < raw.size(); ++k) weights[k] = static_cast<float>(raw[k] / sum);
    taps.first.push_back(begin);
    taps.count.push_back(end - begin);
  }
  return taps;
}

}  // namespace

Image resize(const Image& image, int width, int height) {
  Image out(width, height);
  if (width == image.width && height == image.height) {
    out.pixels = image.pixels;
    return out;
  }
  const Taps across = make_taps(image.width, width);
  const Taps down = make_taps(image.height, height);
  const std::size_t row = static_cast<std::size_t>(width) * 3;
  std::vector<float> narrow(row * static_cast<std::size_t>(image.height));  // [image.height, width, 3]
  for (int y = 0; y < image.height; ++y) {
    for (int x = 0; x < width; ++x) {
      const auto at = static_cast<std::size_t>(x);
      const float* weights = across.weights.data() + at * static_cast<std::size_t>(across.widest);
      const std::uint8_t* from = image.at(across.first[at], y);
      float sum[3] = {0, 0, 0};
      for (int k = 0; k < across.count[at]; ++k) {
        for (int c = 0; c < 3; ++c) sum[c] += weights[k] * static_cast<float>(from[3 * k + c]);
      }
      std::copy_n(sum, 3, narrow.data() + static_cast<std::size_t>(y) * row + 3 * at);
    }
  }
  std::vector<float> sums(row);
  for (int y = 0; y < height; ++y) {
    const auto at = static_cast<std::size_t>(y);
    std::fill(sums.begin(), sums.end(), 0.0f);
    for (int k = 0; k < down.count[at]; ++k) {
      const float weight =
          down.weights[at * static_cast<std::size_t>(down.widest) + static_cast<std::size_t>(k)];
      const float* from = narrow.data() + static_cast<std::size_t>(down.first[at] + k) * row;
      for (std::size_t i = 0; i < row; ++i) sums[i] += weight * from[i];
    }
    std::uint8_t* to = out.at(0, y);
    for (std::size_t i = 0; i < row; ++i)
      to[i] = static_cast<std::uint8_t>(std::clamp(sums[i] + 0.5f, 0.0f, 255.0f));
  }
  return out;
}

Image resize_to_cover(const Image& image, int height, int width) {
  if (height < 1 || width < 1)
    throw ShapeError(cat("[resize] to ", height, " x ", width, ": the sides must be at least 1"));
  const double scale =
      std::max(static_cast<double>(width) / image.width, static_cast<double>(height) / image.height);
  if (image.width * scale * image.height * scale > kMaxResized) {
    throw ShapeError(cat("[resize] ", image.width, " x ", image.height,
                         " pixels are too long and narrow to cover ", width, " x ", height));
  }
  // The side that decides the scale is exact. Rounding must not make the other one too short.
  const int new_width = std::max(width, static_cast<int>(std::lround(image.width * scale)));
  const int new_height = std::max(height, static_cast<int>(std::lround(image.height * scale)));
  return resize(image, new_width, new_height);
}

void crop_to_floats(const Image& image, const TransformOptions& options, std::uint64_t seed,
                    std::int64_t sample_id, float* out) {
  const int spare_x = image.width - options.width;
  const int spare_y = image.height - options.height;
  if (spare_x < 0 || spare_y < 0) {
    throw ShapeError(
        cat("[crop] ", options.height, " x ", options.width, " out of ", image.height, " x ", image.width));
  }
  int x0 = spare_x / 2;
  int y0 = spare_y / 2;
  bool mirrored = false;
  if (options.random_crop || options.flip) {
    const Philox random{seed, kAugmentStream};
    const std::uint64_t element = 4 * static_cast<std::uint64_t>(sample_id);  // four words per sample
    if (options.random_crop) {
      x0 = static_cast<int>(random.below(element, static_cast<std::uint32_t>(spare_x) + 1));
      y0 = static_cast<int>(random.below(element + 1, static_cast<std::uint32_t>(spare_y) + 1));
    }
    mirrored = options.flip && random.below(element + 2, 2) == 1;
  }
  const std::size_t plane =
      static_cast<std::size_t>(options.height) * static_cast<std::size_t>(options.width);
  float* to = out;
  for (int y = 0; y < options.height; ++y) {
    for (int x = 0; x < options.width; ++x, ++to) {
      const std::uint8_t* from = image.at(x0 + (mirrored ? options.width - 1 - x : x), y0 + y);
      for (std::size_t c = 0; c < 3; ++c) to[c * plane] = static_cast<float>(from[c]) / 127.5f - 1.0f;
    }
  }
}

Tensor load_images(Context& ctx, const ImageFolder& folder, const std::vector<std::int64_t>& indices,
                   int height, int width, std::vector<SkippedFile>* skipped) {
  const auto n = static_cast<std::int64_t>(indices.size());
  Tensor images = ctx.empty({n, 3, height, width}, DType::f32);  // [n,3,H,W]
  TransformOptions options;
  options.height = height;
  options.width = width;
  const std::int64_t pixels = std::int64_t{3} * height * width;
  std::vector<std::optional<SkippedFile>> bad(indices.size());
  ctx.pool().parallel_for(n, [&](std::int64_t i) {
    const auto at = static_cast<std::size_t>(i);
    const auto pass_over = [&](const Error& error) {
      bad[at] = SkippedFile{folder.entry(indices[at]).path, error.what()};
    };
    try {
      const Image image = resize_to_cover(folder.load(indices[at]), height, width);
      crop_to_floats(image, options, 0, 0, images.data<float>() + i * pixels);
    } catch (const IoError& error) {
      if (skipped == nullptr) throw;
      pass_over(error);
    } catch (const ShapeError& error) {  // too long and narrow
      if (skipped == nullptr) throw;
      pass_over(error);
    }
  });
  std::int64_t kept = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    if (const auto& file = bad[static_cast<std::size_t>(i)]; file) {
      skipped->push_back(*file);
      continue;
    }
    if (kept != i)
      std::copy_n(images.data<float>() + i * pixels, pixels, images.data<float>() + kept * pixels);
    ++kept;
  }
  if (kept == 0) return n == 0 ? images : Tensor();
  return images.slice(0, 0, kept);
}

}  // namespace llsa::nn

// Pictures of tensors: layout first, then every image is copied to its place, pixel by pixel.
#include "nn/data/grid.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "core/error.h"

namespace llsa::nn {

namespace {

constexpr int kLargestScale = 8;
constexpr int kWantedWidth = 64;  // pixels that a tiny image is enlarged to
constexpr int kWidestByClass = 16;

std::uint8_t to_byte(float value) {
  return static_cast<std::uint8_t>(std::lround(std::clamp((value + 1.0f) * 127.5f, 0.0f, 255.0f)));
}

/// Indices of the images, row by row.
std::vector<std::vector<std::int64_t>> arrange(std::int64_t n, const std::vector<std::int32_t>& classes,
                                               int columns) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  auto class_of = [&](std::int64_t i) { return classes.empty() ? 0 : classes[static_cast<std::size_t>(i)]; };
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return class_of(a) < class_of(b); });
  std::vector<std::vector<std::int64_t>> rows;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const bool new_class = i > 0 && class_of(order[i]) != class_of(order[i - 1]);
    if (rows.empty() || new_class || rows.back().size() == static_cast<std::size_t>(columns))
      rows.emplace_back();
    rows.back().push_back(order[i]);
  }
  return rows;
}

int default_columns(std::int64_t n, const std::vector<std::int32_t>& classes) {
  if (classes.empty()) return static_cast<int>(std::ceil(std::sqrt(static_cast<double>(n))));
  std::vector<std::int32_t> sorted = classes;
  std::sort(sorted.begin(), sorted.end());
  std::int64_t most = 0;
  for (auto begin = sorted.begin(); begin != sorted.end();) {
    const auto end = std::upper_bound(begin, sorted.end(), *begin);
    most = std::max<std::int64_t>(most, end - begin);
    begin = end;
  }
  return static_cast<int>(std::min<std::int64_t>(most, kWidestByClass));
}

std::int64_t scale_of(const GridOptions& options, std::int64_t width) {
  return options.scale > 0
             ? options.scale
             : std::clamp<std::int64_t>(kWantedWidth / std::max<std::int64_t>(width, 1), 1, kLargestScale);
}

}  // namespace

Image to_image(const Tensor& image) {
  if (!image.device().is_cpu())
    throw DeviceError(cat("[grid] expected a tensor on the cpu, got one on ", image.device().str()));
  if (image.dtype() != DType::f32) throw DTypeError(cat("[grid] expected f32, got ", name_of(image.dtype())));
  if (image.rank() != 3 || image.size(0) != 3 || image.numel() == 0 ||
      image.numel() > std::numeric_limits<int>::max()) {
    throw ShapeError(cat("[grid] expected an image [3,H,W], got ", image.shape()));
  }
  Image out(static_cast<int>(image.size(2)), static_cast<int>(image.size(1)));
  const float* data = image.data<float>();
  for (int y = 0; y < out.height; ++y) {
    for (int x = 0; x < out.width; ++x) {
      const float* from = data + y * image.stride(1) + x * image.stride(2);
      const float rgb[3] = {from[0], from[image.stride(0)], from[2 * image.stride(0)]};
      const bool nan = std::isnan(rgb[0]) || std::isnan(rgb[1]) || std::isnan(rgb[2]);
      for (std::size_t c = 0; c < 3; ++c) out.at(x, y)[c] = nan ? (c == 1 ? 0 : 255) : to_byte(rgb[c]);
    }
  }
  return out;
}

Image make_grid(const Tensor& images, const std::vector<std::int32_t>& classes, const GridOptions& options) {
  if (images.rank() != 4 || images.numel() == 0)
    throw ShapeError(cat("[grid] expected at least one image, [n,3,H,W], got ", images.shape()));
  const std::int64_t n = images.size(0);
  if (!classes.empty() && static_cast<std::int64_t>(classes.size()) != n) {
    throw ShapeError(cat("[grid] ", classes.size(), " classes for ", n, " images"));
  }
  if (options.columns < 0 || options.margin < 0 || options.scale < 0) {
    throw ValueError(cat("[grid] columns ", options.columns, ", margin ", options.margin, ", scale ",
                         options.scale, ": none may be negative"));
  }
  const std::int64_t width = images.size(3);
  const std::int64_t height = images.size(2);
  const std::int64_t scale = scale_of(options, width);
  const int columns = options.columns > 0 ? options.columns : default_columns(n, classes);
  const auto rows = arrange(n, classes, columns);
  std::size_t widest = 0;
  for (const auto& row : rows) widest = std::max(widest, row.size());

  const std::int64_t step_x = width * scale + options.margin;
  const std::int64_t step_y = height * scale + options.margin;
  const std::int64_t full_width = options.margin + static_cast<std::int64_t>(widest) * step_x;
  const std::int64_t full_height = options.margin + static_cast<std::int64_t>(rows.size()) * step_y;
  if (full_width > std::numeric_limits<int>::max() ||
      full_height > std::numeric_limits<int>::max() / 3 / full_width) {
    throw ShapeError(cat("[grid] a picture of ", full_width, " x ", full_height, " pixels is too large"));
  }
  Image grid(static_cast<int>(full_width), static_cast<int>(full_height), options.background);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    for (std::size_t c = 0; c < rows[r].size(); ++c) {
      const Image image = to_image(images.select(0, rows[r][c]));
      const int x0 = static_cast<int>(options.margin + static_cast<std::int64_t>(c) * step_x);
      const int y0 = static_cast<int>(options.margin + static_cast<std::int64_t>(r) * step_y);
      const int factor = static_cast<int>(scale);
      for (int y = 0; y < image.height * factor; ++y) {
        for (int x = 0; x < image.width * factor; ++x) {
          std::memcpy(grid.at(x0 + x, y0 + y), image.at(x / factor, y / factor), 3);
        }
      }
    }
  }
  return grid;
}

std::vector<Image> split_grid(const Image& grid, int width, int height, const GridOptions& options) {
  const auto scale = static_cast<int>(scale_of(options, width));
  const int step_x = width * scale + options.margin, step_y = height * scale + options.margin;
  if (width < 1 || height < 1 || grid.width <= options.margin || grid.height <= options.margin ||
      (grid.width - options.margin) % step_x != 0 || (grid.height - options.margin) % step_y != 0)
    throw ShapeError(cat("[grid] a picture of ", grid.width, " x ", grid.height,
                         " pixels is no grid of images of ", width, " x ", height));
  std::vector<Image> images;
  for (int y0 = options.margin; y0 < grid.height; y0 += step_y) {
    for (int x0 = options.margin; x0 < grid.width; x0 += step_x) {
      Image image(width, height);
      for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x)
          std::memcpy(image.at(x, y), grid.at(x0 + x * scale, y0 + y * scale), 3);
      if (image.pixels != Image(width, height, options.background).pixels) images.push_back(std::move(image));
    }
  }
  return images;
}

}  // namespace llsa::nn

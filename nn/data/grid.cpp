// Pictures of tensors: layout first, then every image is copied to its place, pixel by pixel.
#include "nn/data/grid.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <utility>

#include "core/error.h"

namespace llsa::nn {

namespace {

constexpr int kLargestScale = 8;
constexpr int kWantedWidth = 64;  // pixels that a tiny image is enlarged to
constexpr std::size_t kWidestBlock = 16;

std::uint8_t to_byte(float value) {
  return static_cast<std::uint8_t>(std::lround(std::clamp((value + 1.0f) * 127.5f, 0.0f, 255.0f)));
}

/// The places of the images: their numbers, row by row; -1 is an empty place.
struct Layout {
  std::size_t columns = 1;  // of one block
  std::size_t abreast = 1;  // blocks side by side
  std::vector<std::vector<std::int64_t>> rows = {};
  /// Between blocks of several columns one column stays empty, so that all places of a grid have the same distance.
  std::size_t step() const { return columns > 1 ? columns + 1 : columns; }
  std::size_t width() const { return step() * (abreast - 1) + columns; }
};

/// The numbers of the images of every class, by rising class; without classes all are one block.
std::vector<std::vector<std::int64_t>> blocks_of(std::int64_t n, const std::vector<std::int32_t>& classes) {
  std::map<std::int32_t, std::vector<std::int64_t>> sorted;
  for (std::int64_t i = 0; i < n; ++i)
    sorted[classes.empty() ? 0 : classes[static_cast<std::size_t>(i)]].push_back(i);
  std::vector<std::vector<std::int64_t>> blocks;
  for (auto& item : sorted) blocks.push_back(std::move(item.second));
  return blocks;
}

/// Bands of blocks side by side, each as high as its largest block.
Layout place(const std::vector<std::vector<std::int64_t>>& blocks, std::size_t columns, std::size_t abreast) {
  Layout layout{columns, abreast};
  std::size_t top = 0;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const std::size_t left = i % abreast * layout.step();
    if (left == 0) top = layout.rows.size();
    const std::size_t bottom = top + (blocks[i].size() + columns - 1) / columns;
    if (layout.rows.size() < bottom)
      layout.rows.resize(bottom, std::vector<std::int64_t>(layout.width(), -1));
    for (std::size_t k = 0; k < blocks[i].size(); ++k)
      layout.rows[top + k / columns][left + k % columns] = blocks[i][k];
  }
  return layout;
}

std::int64_t scale_of(const GridOptions& options, std::int64_t width) {
  return options.scale > 0
             ? options.scale
             : std::clamp<std::int64_t>(kWantedWidth / std::max<std::int64_t>(width, 1), 1, kLargestScale);
}

/// The number of blocks side by side that makes the picture's longer side smallest; of equal ones the first.
Layout arrange(std::int64_t n, const std::vector<std::int32_t>& classes, int columns) {
  const auto blocks = blocks_of(n, classes);
  if (columns > 0) return place(blocks, static_cast<std::size_t>(columns), 1);
  if (classes.empty())
    return place(blocks, static_cast<std::size_t>(std::ceil(std::sqrt(static_cast<double>(n)))), 1);
  std::size_t most = 0;
  for (const auto& block : blocks) most = std::max(most, block.size());
  const std::size_t width = std::min(most, kWidestBlock);
  const auto side = [](const Layout& layout) { return std::max(layout.width(), layout.rows.size()); };
  Layout best = place(blocks, width, 1);
  for (std::size_t abreast = 2; abreast <= blocks.size() && abreast * width < side(best); ++abreast)
    if (Layout wider = place(blocks, width, abreast); side(wider) < side(best)) best = std::move(wider);
  return best;
}

/// A whole picture, in pixels.
struct Picture {
  Layout layout;
  std::size_t columns = 0;  // that hold an image
  std::int64_t scale, step_x, step_y, margin;
  std::int64_t width, height;

  Picture(const Shape& images, const std::vector<std::int32_t>& classes, const GridOptions& options) {
    if (images.rank() != 4 || images.numel() == 0)
      throw ShapeError(cat("[grid] expected at least one image, [n,3,H,W], got ", images));
    if (!classes.empty() && static_cast<std::int64_t>(classes.size()) != images[0])
      throw ShapeError(cat("[grid] ", classes.size(), " classes for ", images[0], " images"));
    if (options.columns < 0 || options.margin < 0 || options.scale < 0) {
      throw ValueError(cat("[grid] columns ", options.columns, ", margin ", options.margin, ", scale ",
                           options.scale, ": none may be negative"));
    }
    layout = arrange(images[0], classes, options.columns);
    for (const auto& row : layout.rows)
      for (std::size_t c = 0; c < row.size(); ++c)
        if (row[c] >= 0) columns = std::max(columns, c + 1);
    scale = scale_of(options, images[3]);
    margin = options.margin;
    step_x = images[3] * scale + margin;
    step_y = images[2] * scale + margin;
    width = left_of(columns);
    height = top_of(layout.rows.size());
    constexpr std::int64_t kMost = std::numeric_limits<int>::max();
    if (width > kMost || height > kMost / 3 / width)
      throw ShapeError(cat("[grid] a picture of ", width, " x ", height, " pixels is too large"));
  }

  std::int64_t left_of(std::size_t column) const {
    return margin + static_cast<std::int64_t>(column) * step_x;
  }
  std::int64_t top_of(std::size_t row) const { return margin + static_cast<std::int64_t>(row) * step_y; }
};

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

void check_grid(const Shape& images, const std::vector<std::int32_t>& classes, const GridOptions& options) {
  Picture(images, classes, options);
}

Image make_grid(const Tensor& images, const std::vector<std::int32_t>& classes, const GridOptions& options) {
  const Picture picture(images.shape(), classes, options);
  Image grid(static_cast<int>(picture.width), static_cast<int>(picture.height), options.background);
  for (std::size_t r = 0; r < picture.layout.rows.size(); ++r) {
    for (std::size_t c = 0; c < picture.columns; ++c) {
      if (picture.layout.rows[r][c] < 0) continue;
      const Image image = to_image(images.select(0, picture.layout.rows[r][c]));
      const int x0 = static_cast<int>(picture.left_of(c));
      const int y0 = static_cast<int>(picture.top_of(r));
      const int factor = static_cast<int>(picture.scale);
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

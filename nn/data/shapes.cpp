// The generator: shapes as inside-tests in a unit square, coverage by 16 samples per pixel.
#include "nn/data/shapes.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <filesystem>
#include <system_error>

#include "core/error.h"
#include "core/philox.h"

namespace llsa::nn {

namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t kShapesStream = 0x7368617065730000u;  // "shapes"
constexpr int kSupersampling = 4;                             // per axis

struct Gradient {
  Rgb top, bottom;
};

constexpr std::array<Rgb, 5> kColours = {
    {{235, 70, 60}, {70, 200, 90}, {80, 130, 245}, {245, 205, 60}, {225, 225, 235}}};
constexpr std::array<Gradient, 4> kGradients = {{{{12, 12, 30}, {48, 52, 86}},
                                                 {{52, 28, 44}, {16, 10, 18}},
                                                 {{14, 34, 32}, {40, 66, 52}},
                                                 {{58, 50, 40}, {20, 18, 16}}}};

/// Whether (x, y), relative to the centre and in units of the radius, y downwards, lies in the shape.
bool inside(int shape, float x, float y) {
  const float squared = x * x + y * y;
  switch (shape) {
    case 0:
      return squared <= 1.0f;  // circle
    case 1:
      return squared <= 1.0f && squared >= 0.55f * 0.55f;  // ring
    case 2:
      return std::max(std::abs(x), std::abs(y)) <= 0.88f;  // square
    default:
      return y <= 0.8f && y >= 1.8f * std::abs(x) / 1.05f - 1.0f;  // triangle with its tip up
  }
}

/// Whether a folder holds an earlier set and nothing else.
bool is_shape_set(const fs::path& folder) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    const auto& names = shape_names();
    if (!entry.is_directory() || entry.is_symlink() ||
        std::find(names.begin(), names.end(), entry.path().filename().string()) == names.end()) {
      return false;
    }
    for (const auto& file : fs::directory_iterator(entry.path())) {
      const std::string stem = file.path().stem().string();
      const bool digits =
          std::all_of(stem.begin(), stem.end(), [](unsigned char c) { return std::isdigit(c); });
      if (!file.is_regular_file() || file.path().extension() != ".png" || !digits) return false;
    }
  }
  return true;
}

/// Removes a folder at the end of the scope, unless it was renamed away.
struct TemporaryFolder {
  fs::path path;
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

}  // namespace

const std::vector<std::string>& shape_names() {
  static const std::vector<std::string> names = {"circle", "ring", "square", "triangle"};
  return names;
}

Image draw_shape(int size, std::uint64_t seed, std::int64_t index) {
  if (size < 4 || size > 4096) throw ValueError(cat("[shapes] size ", size, ", expected 4 to 4096"));
  const Philox random{seed, kShapesStream};
  const std::uint64_t element = 8 * static_cast<std::uint64_t>(index);  // eight words per image
  const int shape = static_cast<int>(index % 4);
  const Rgb colour = kColours[random.below(element, kColours.size())];
  const Gradient& gradient = kGradients[random.below(element + 1, kGradients.size())];
  const auto side = static_cast<float>(size);
  const float radius = side * (0.30f + 0.10f * random.uniform(element + 2));
  const float centre_x = side * (0.5f + 0.09f * (2.0f * random.uniform(element + 3) - 1.0f));
  const float centre_y = side * (0.5f + 0.09f * (2.0f * random.uniform(element + 4) - 1.0f));
  Image image(size, size);
  for (int y = 0; y < size; ++y) {
    const float down = (static_cast<float>(y) + 0.5f) / side;
    for (int x = 0; x < size; ++x) {
      int hits = 0;
      for (int s = 0; s < kSupersampling * kSupersampling; ++s) {
        const float sub_x = (static_cast<float>(s % kSupersampling) + 0.5f) / kSupersampling;
        const float sub_y = (static_cast<float>(s / kSupersampling) + 0.5f) / kSupersampling;
        hits += inside(shape, (static_cast<float>(x) + sub_x - centre_x) / radius,
                       (static_cast<float>(y) + sub_y - centre_y) / radius);
      }
      const float cover = static_cast<float>(hits) / (kSupersampling * kSupersampling);
      for (std::size_t c = 0; c < 3; ++c) {
        const float ground = static_cast<float>(gradient.top[c]) * (1.0f - down) +
                             static_cast<float>(gradient.bottom[c]) * down;
        image.at(x, y)[c] =
            static_cast<std::uint8_t>(std::lround(ground + cover * (static_cast<float>(colour[c]) - ground)));
      }
    }
  }
  return image;
}

bool write_shapes(const ShapesOptions& options, const Callbacks& callbacks) {
  if (options.out.empty()) throw ValueError("[shapes] no output folder");
  if (options.count < 1 || options.count > 100'000'000) {
    throw ValueError(cat("[shapes] count ", options.count, ", expected 1 to 100000000"));
  }
  if (options.size < 4 || options.size > 4096)
    throw ValueError(cat("[shapes] size ", options.size, ", expected 4 to 4096"));
  fs::path out = fs::path(options.out).lexically_normal();
  if (!out.has_filename()) out = out.parent_path();  // "name/"
  try {
    if (fs::exists(out)) {
      if (!fs::is_directory(out)) throw IoError(cat("[shapes] ", options.out, " exists and is no folder"));
      const bool empty = fs::is_empty(out);
      if (!empty && !options.replace) {
        throw IoError(cat("[shapes] the folder ", options.out, " is not empty"),
                      "choose another one, or say that it may be replaced");
      }
      if (!empty && !is_shape_set(out)) {
        throw IoError(cat("[shapes] the folder ", options.out,
                          " holds more than an earlier set of shapes and is left alone"));
      }
    }
    if (out.has_parent_path()) fs::create_directories(out.parent_path());
    const std::string name = cat(".", out.filename().string(), ".", ::getpid());
    const TemporaryFolder fresh{out.parent_path() / (name + ".new")};
    const TemporaryFolder old{out.parent_path() / (name + ".old")};
    fs::remove_all(fresh.path);
    for (const std::string& shape : shape_names()) fs::create_directories(fresh.path / shape);
    for (std::int64_t i = 0; i < options.count; ++i) {
      std::string number = std::to_string(i);
      if (number.size() < 6) number.insert(0, 6 - number.size(), '0');
      const fs::path file = fresh.path / shape_names()[static_cast<std::size_t>(i % 4)] / (number + ".png");
      write_bytes(file.string(), encode_png(draw_shape(options.size, options.seed, i)));
      if (callbacks.on_progress) callbacks.on_progress(i + 1, options.count);
      if (callbacks.should_stop && callbacks.should_stop()) return false;
    }
    // rename() replaces an empty folder, but not a full one.
    if (fs::exists(out) && !fs::is_empty(out)) fs::rename(out, old.path);
    fs::rename(fresh.path, out);
    return true;
  } catch (const fs::filesystem_error& error) {
    throw IoError(cat("[shapes] ", error.path1().string(), ": ", error.code().message()));
  }
}

}  // namespace llsa::nn

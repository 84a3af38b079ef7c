// A small data set that a model learns in minutes: one flat coloured shape per image, on a dark vertical
// gradient.
//
// The classes are circle, ring, square, triangle, in this order, which is that of their folder names. There
// are five colours and four gradients. The radius is 0.30 to 0.40 of the side; the centre is off the middle
// by at most 9 % of the side per axis. Edges are 4 x 4 supersampled. Image i is a function of (seed, i)
// alone, and its class is i mod 4.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "../callbacks.h"
#include "image_io.h"

namespace llsa::nn {

struct ShapesOptions {
  std::string out;  ///< folder
  std::int64_t count = 8000;
  int size = 16;  ///< side in pixels, 4 .. 4096
  std::uint64_t seed = 1;
  bool replace = false;  ///< replace an earlier set in `out`
};

/// "circle", "ring", "square", "triangle".
const std::vector<std::string>& shape_names();

/// Image `index` of the set. Throws ValueError for a size outside its range.
Image draw_shape(int size, std::uint64_t seed, std::int64_t index);

/// Writes out/<class>/<index>.png. The set is made under a temporary name beside `out` and renamed, so it
/// appears whole or not at all. An `out` that holds anything is refused; with `replace` it may hold an
/// earlier set (PNG files in folders named as the classes), and nothing else. Progress is counted in images.
/// Returns false when should_stop ended the work: nothing is left of it then. Throws ValueError for an option
/// outside its range, IoError naming the path.
bool write_shapes(const ShapesOptions& options, const Callbacks& callbacks = {});

}  // namespace llsa::nn

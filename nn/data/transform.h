// From a decoded image to model input: resize, crop, flip, scale to [-1, 1].
//
// Resizing is bilinear with antialiasing, as PIL's BILINEAR. Output pixel i lies at s in the input and weighs
// the input pixels j, normalised to sum 1:
//
//   s = (i + 1/2) a,   a = in / out,   w_j = max(0, 1 - |j + 1/2 - s| / max(a, 1))
//
// Both axes are computed in float, and the result is rounded to 8 bits once. Random choices depend on (seed,
// sample id) alone.
#pragma once

#include <cstdint>
#include <vector>

#include "../../core/context.h"
#include "../../core/tensor.h"
#include "image_folder.h"
#include "image_io.h"

namespace llsa::nn {

struct TransformOptions {
  int height = 0;
  int width = 0;
  bool random_crop = false;  ///< else the centre
  bool flip = false;         ///< left-right with probability 1/2
};

/// Resizes to exactly width x height. The same size gives the same pixels. Throws ShapeError for a side
/// below 1.
Image resize(const Image& image, int width, int height);

/// Resizes, keeping the aspect, to the smallest size that covers height x width: for a square the shorter
/// side fits.
Image resize_to_cover(const Image& image, int height, int width);

/// Crops options.height x options.width out of an image that covers it, flips, and writes x = v / 127.5 - 1
/// as [3,H,W] floats to `out`. Throws ShapeError when the image is smaller than the crop.
void crop_to_floats(const Image& image, const TransformOptions& options, std::uint64_t seed,
                    std::int64_t sample_id, float* out);

/// Images of a folder, resized and cropped at the centre: f32 [n,3,H,W] in [-1, 1]. Throws IoError for a file
/// that cannot be decoded, ShapeError for one that cannot be resized, ValueError for an index outside the
/// folder. With `skipped`, files of the first two kinds are left out and added to it; the tensor is undefined
/// when no image is left.
Tensor load_images(Context& ctx, const ImageFolder& folder, const std::vector<std::int64_t>& indices,
                   int height, int width, std::vector<SkippedFile>* skipped = nullptr);

}  // namespace llsa::nn

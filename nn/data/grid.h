// Tensors as pictures: one image, or many in a grid.
#pragma once

#include <cstdint>
#include <vector>

#include "../../core/tensor.h"
#include "image_io.h"

namespace llsa::nn {

struct GridOptions {
  /// Images per row, or per row of a class's block; 0 = what makes the picture about square.
  int columns = 0;
  int margin = 2;  ///< pixels between and around the images
  /// Each pixel becomes scale x scale; 0 = enough to make an image 64 pixels wide, at most 8.
  int scale = 0;
  Rgb background = {32, 32, 32};
};

/// One image [3,H,W], f32 on the CPU with any strides: v = round(127.5 (x + 1)) clamped to 0 .. 255. A pixel
/// with a NaN becomes magenta, so that one can see it. Throws ShapeError, DTypeError or DeviceError for
/// another tensor.
Image to_image(const Tensor& image);

/// Images [n,3,H,W], n >= 1, row by row. With `classes` (one number per image) the images of one class stay together, in
/// their order, in a block of at most 16 columns. Every block begins a new row; if the picture would
/// become tall, as many blocks stand side by side as make it about square, with an empty column between them. Throws
/// what to_image() throws, and ShapeError when `classes` is neither empty nor of length n, or when the picture is too large.
///
/// check_grid() throws the same errors for a shape, before images of that shape are made.
void check_grid(const Shape& images, const std::vector<std::int32_t>& classes = {},
                const GridOptions& options = {});
Image make_grid(const Tensor& images, const std::vector<std::int32_t>& classes = {},
                const GridOptions& options = {});

/// The inverse of make_grid() with the same options (columns do not matter): the images of width x height pixels in a
/// picture, row by row. Empty places are left out. Throws ShapeError for a picture that is no such grid.
std::vector<Image> split_grid(const Image& grid, int width, int height, const GridOptions& options = {});

}  // namespace llsa::nn

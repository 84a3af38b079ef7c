// Pixels to patches and back. A transformer's first layer is linear on patches: a convolution whose stride is its
// kernel.
#pragma once

#include <cstdint>

#include "../autograd/var.h"

namespace llsa::nn {

/// x [b,c,h p,w p] -> [b,h w,c p p]: patches in raster order, (channel, row, column) inside a patch. The patch divides
/// both sides.
Var pixels_to_patches(const Var& x, std::int64_t patch);

/// tokens [b,rows columns,p p c], (row, column, channel) inside a patch -> [b,c,rows p,columns p]. Throws ShapeError for
/// another number of tokens.
Var patches_to_pixels(const Var& tokens, std::int64_t rows, std::int64_t columns, std::int64_t patch);

}  // namespace llsa::nn

// The orientation of a picture that a camera was turned for, which its EXIF data tells.
//
//   1 upright   2 mirrored left-right   3 half a turn                     4 mirrored top-bottom
//   5 mirrored along the main diagonal  6 to be turned a quarter clockwise
//   7 mirrored along the other one      8 to be turned a quarter anticlockwise
#pragma once

#include <cstdint>

#include "byte_source.h"
#include "image_io.h"

namespace llsa::nn {

/// The orientation in the first directory of an EXIF block, a TIFF file in the bytes [begin, end); 1 where it says none
/// or none of the above.
int exif_orientation(ByteSource& source, std::uint64_t begin, std::uint64_t end);

/// The picture made upright. An orientation outside 2 .. 8 leaves it as it is.
Image upright(Image image, int orientation);

}  // namespace llsa::nn

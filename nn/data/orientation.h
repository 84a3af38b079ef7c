// The EXIF orientation of a picture: how its pixels have to be turned or mirrored to stand upright.
//
//   1 upright   2 mirrored left-right   3 half a turn                     4 mirrored top-bottom
//   5 mirrored along the main diagonal  6 to be turned a quarter clockwise
//   7 mirrored along the other one      8 to be turned a quarter anticlockwise
#pragma once

#include <cstdint>

#include "byte_source.h"
#include "image_io.h"

namespace llsa::nn {

/// The orientation in the first directory of an EXIF block, a TIFF file in the bytes [begin, end); 1 if it has none
/// or an invalid one.
int exif_orientation(ByteSource& source, std::uint64_t begin, std::uint64_t end);

/// Turns and mirrors the picture so that it stands upright. An orientation outside 2 .. 8 changes nothing.
Image upright(Image image, int orientation);

}  // namespace llsa::nn

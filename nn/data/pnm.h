// Binary portable any-map files: "P5" (grey) or "P6" (RGB), width, height, largest value, one white space,
// then the samples, which have two bytes (upper one first) when the largest value exceeds 255.
//
// They are decoded here because stb_image 2.27 ignores the largest value, takes the lower byte of 16-bit
// samples and, when it turns 16-bit grey into RGB, reads past the end of its buffer.
#pragma once

#include "image_format.h"
#include "image_io.h"

namespace llsa::nn {

struct PnmHeader {
  std::int64_t width = 0;
  std::int64_t height = 0;
  int channels = 0;      ///< 1 or 3
  int largest = 0;       ///< 1 .. 65535
  std::uint64_t at = 0;  ///< of the first sample
};

/// Throws IoError for another kind, a malformed header, more than max_pixels, or a file shorter than its
/// header says.
PnmHeader read_pnm_header(ByteSource& source, std::int64_t max_pixels);

/// Samples become round(255 min(v, largest) / largest). Grey becomes three equal channels.
Image decode_pnm(ByteSource& source, std::int64_t max_pixels);

}  // namespace llsa::nn

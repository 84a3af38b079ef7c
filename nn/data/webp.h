// WebP files, read by libwebp. A build without libwebp compiles webp_absent.cpp instead of webp.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "byte_source.h"
#include "image_io.h"

namespace llsa::nn {

/// Whether this build has libwebp.
bool reads_webp();

/// Size, channels and EXIF orientation from the chunks of a WebP file. Throws IoError for a file that ends early, a
/// damaged or an animated one, or one with more than max_pixels.
ImageInfo probe_webp(ByteSource& source, std::int64_t max_pixels);

/// RGBA pixels of a file in memory that probe_webp() has passed. Throws IoError for damaged data.
std::vector<std::uint8_t> decode_webp(const ByteSource& source, const std::uint8_t* bytes);

}  // namespace llsa::nn

// Whether an image file is complete, found from its structure without decoding a pixel.
//
// stb_image fills the missing part of a short BMP, TGA, PNM or GIF with black and ignores PNG checksums, so
// an interrupted copy would become training data. The functions here walk over the chunks, markers or blocks
// of the file, read a few bytes of each, and refuse such a file.
#pragma once

#include <cstdint>
#include <string>

#include "byte_source.h"

namespace llsa::nn {

struct ImageStructure {
  std::string format;   ///< as file_format()
  int orientation = 1;  ///< EXIF orientation of a JPEG or PNG
  bool plain_cmyk =
      false;  ///< a JPEG of four components without Adobe's marker, which says how they are stored
  bool ignore_alpha = false;  ///< a TGA that declares its fourth byte not to be alpha
};

/// Recognises the format (file_format.h) and walks the file to its end. `thorough` also checks the Huffman tables of
/// every JPEG scan and the checksum of every PNG chunk that matters. Only a file that passed this is safe to give to
/// stb_image. Throws IoError for an unknown
/// format, more than max_pixels, a file that ends too early, and damage.
ImageStructure check_structure(ByteSource& source, std::int64_t max_pixels, bool thorough);

/// Throws IoError unless 1 <= width * height <= max_pixels, without overflow.
void require_pixels(const ByteSource& source, std::int64_t width, std::int64_t height,
                    std::int64_t max_pixels);

}  // namespace llsa::nn

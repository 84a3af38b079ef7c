// Image files to pixels and back: PNG, JPEG, BMP, TGA and GIF (first frame) by stb_image, PNM, and WebP if the build
// has libwebp. PNG files are written by stb_image_write.
//
// Every image becomes 8-bit RGB: palettes and grey are expanded, 16-bit samples keep their upper byte, alpha
// is composed over a background, and CMYK is converted by products of inks and black. The EXIF orientation of a JPEG,
// PNG or WebP is applied. Colour profiles and gamma are ignored. The size is read from the header before anything is
// decoded. Files that end early are refused, even those whose rest stb_image would silently fill with black
// (image_format.h).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "byte_source.h"

namespace llsa::nn {

using Rgb = std::array<std::uint8_t, 3>;

/// 8-bit RGB, rows from top to bottom, pixels from left to right, three bytes each.
struct Image {
  int width = 0;
  int height = 0;
  std::vector<std::uint8_t> pixels;  ///< height * width * 3

  Image() = default;
  /// Filled with one colour. Throws ShapeError for a side below 1 or more than 2^31 - 1 bytes.
  Image(int width, int height, Rgb colour = {0, 0, 0});

  std::uint8_t* at(int x, int y) { return pixels.data() + offset(x, y); }
  const std::uint8_t* at(int x, int y) const { return pixels.data() + offset(x, y); }
  std::size_t offset(int x, int y) const {
    return (static_cast<std::size_t>(y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(x)) * 3;
  }
};

struct DecodeOptions {
  Rgb background = {0, 0, 0};            ///< what shows through transparent pixels
  std::int64_t max_pixels = 64'000'000;  ///< width * height beyond this is refused before decoding
  bool exif = true;                      ///< turn the image as its EXIF orientation says
};

/// What the header of a file says.
struct ImageInfo {
  std::string format;  ///< as file_format()
  int width = 0;       ///< of the decoded image
  int height = 0;
  int channels = 0;     ///< 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA
  int orientation = 1;  ///< EXIF orientation of a JPEG, PNG or WebP (orientation.h)
};

/// Reads the header and checks the structure of a file without decoding it: a few reads, however large the
/// file is. Throws IoError naming file and reason: cannot be opened, empty, no image, too large, ends early.
ImageInfo probe_image(const std::string& path, const DecodeOptions& options = {});
ImageInfo probe_image(ByteSource& source, const DecodeOptions& options = {});

/// Decodes a file. Throws IoError naming file and reason: those of probe_image(), a wrong checksum, damaged
/// data.
Image decode_image(const std::string& path, const DecodeOptions& options = {});

/// The same for a file held in memory; `name` stands in messages, and its extension tells a TGA, which has no
/// signature.
Image decode_image(const std::vector<std::uint8_t>& bytes, const std::string& name,
                   const DecodeOptions& options = {});

/// The bytes of a PNG file. Throws ShapeError for an empty image.
std::vector<std::uint8_t> encode_png(const Image& image);

/// Writes a PNG file under a temporary name and renames it, so there is never half a file. Throws IoError
/// naming the file.
void write_png(const std::string& path, const Image& image);

/// Writes a file without the temporary name, for many files in a folder that is itself temporary. Throws
/// IoError.
void write_bytes(const std::string& path, const std::vector<std::uint8_t>& bytes);

/// "black", "white", "grey", "#rrggbb" or "r,g,b" with 0..255. Throws ValueError that lists these forms.
Rgb parse_colour(const std::string& text);

}  // namespace llsa::nn

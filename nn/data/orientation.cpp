#include "nn/data/orientation.h"

#include <algorithm>

namespace llsa::nn {

int exif_orientation(ByteSource& source, std::uint64_t begin, std::uint64_t end) {
  constexpr std::uint32_t kOrientation = 0x0112, kShort = 3;
  if (begin + 8 > end) return 1;
  const bool little = source.u8(begin) == 'I';
  auto u16 = [&](std::uint64_t at) { return little ? source.le16(at) : source.be16(at); };
  const std::uint64_t directory = begin + (little ? source.le32(begin + 4) : source.be32(begin + 4));
  if (directory + 2 > end) return 1;
  const std::uint64_t entries = u16(directory);
  for (std::uint64_t i = 0; i < entries; ++i) {
    const std::uint64_t entry = directory + 2 + 12 * i;
    if (entry + 12 > end) return 1;
    if (u16(entry) != kOrientation) continue;
    const std::uint32_t value = u16(entry + 8);
    return u16(entry + 2) == kShort && value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

Image upright(Image image, int orientation) {
  if (orientation < 2 || orientation > 8) return image;
  const bool transposed = orientation >= 5;
  Image out(transposed ? image.height : image.width, transposed ? image.width : image.height);
  // The pixel (x, y) of the result is the pixel (from_x, from_y) of the file.
  const bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool from_bottom = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  for (int y = 0; y < out.height; ++y) {
    for (int x = 0; x < out.width; ++x) {
      const int column = transposed ? y : x, row = transposed ? x : y;
      const int from_x = from_right ? image.width - 1 - column : column;
      const int from_y = from_bottom ? image.height - 1 - row : row;
      std::copy_n(image.at(from_x, from_y), 3, out.at(x, y));
    }
  }
  return out;
}

}  // namespace llsa::nn

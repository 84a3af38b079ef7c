// One pass over header and samples.
#include "nn/data/pnm.h"

#include <algorithm>
#include <cctype>

#include "core/error.h"

namespace llsa::nn {

namespace {

[[noreturn]] void fail_in_header(const ByteSource& source) {
  source.fail("ends early: PNM stops inside its header");
}

/// Reads the next number of the header and moves `at` behind it. Numbers are separated by white space and by
/// comments, which go from # to the end of the line.
std::int64_t read_number(ByteSource& source, std::uint64_t& at) {
  for (;; ++at) {
    if (at >= source.size()) fail_in_header(source);
    if (source.u8(at) == '#') {
      while (at < source.size() && source.u8(at) != '\n' && source.u8(at) != '\r') ++at;
      if (at >= source.size()) fail_in_header(source);
    }
    if (!std::isspace(source.u8(at))) break;
  }
  if (!std::isdigit(source.u8(at))) source.fail("damaged PNM: its header has no number where one belongs");
  std::int64_t value = 0;
  for (; at < source.size() && std::isdigit(source.u8(at)); ++at) {
    value = std::min<std::int64_t>(value * 10 + (source.u8(at) - '0'),
                                   std::int64_t{1} << 40);  // beyond any limit
  }
  return value;
}

}  // namespace

PnmHeader read_pnm_header(ByteSource& source, std::int64_t max_pixels) {
  const int kind = source.u8(1);
  if (kind != '5' && kind != '6') {
    source.fail(cat("unsupported PNM: P", static_cast<char>(kind)),
                "only the binary kinds P5 and P6 are read");
  }
  PnmHeader header;
  std::uint64_t at = 2;
  header.width = read_number(source, at);
  header.height = read_number(source, at);
  require_pixels(source, header.width, header.height, max_pixels);
  const std::int64_t largest = read_number(source, at);
  if (largest < 1 || largest > 65535)
    source.fail(cat("damaged PNM: largest value ", largest, ", expected 1 to 65535"));
  header.channels = kind == '6' ? 3 : 1;
  header.largest = static_cast<int>(largest);
  header.at = at + 1;
  const std::int64_t samples = header.width * header.height * header.channels;
  const std::uint64_t needed = header.at + static_cast<std::uint64_t>(samples) * (largest > 255 ? 2 : 1);
  if (source.size() < needed)
    source.fail(cat("ends early: PNM needs ", needed, " bytes, has ", source.size()));
  return header;
}

Image decode_pnm(ByteSource& source, std::int64_t max_pixels) {
  const PnmHeader header = read_pnm_header(source, max_pixels);
  Image image(static_cast<int>(header.width), static_cast<int>(header.height));
  const auto largest = static_cast<std::uint32_t>(header.largest);
  std::uint64_t at = header.at;
  for (std::size_t i = 0; i < image.pixels.size(); i += 3) {
    for (std::size_t c = 0; c < 3; ++c) {
      if (c > 0 && header.channels == 1) {
        image.pixels[i + c] = image.pixels[i];
        continue;
      }
      const std::uint32_t sample = largest > 255 ? source.be16(at) : source.u8(at);
      at += largest > 255 ? 2 : 1;
      image.pixels[i + c] =
          static_cast<std::uint8_t>((std::min(sample, largest) * 255 + largest / 2) / largest);
    }
  }
  return image;
}

}  // namespace llsa::nn

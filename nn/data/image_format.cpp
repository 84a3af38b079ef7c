// Walks of the file formats (PNM: pnm.cpp). Each function states the rule by which a file is complete.
#include "nn/data/image_format.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>

#include "core/error.h"
#include "nn/data/file_format.h"
#include "nn/data/orientation.h"
#include "nn/data/pnm.h"

namespace llsa::nn {

namespace {

[[noreturn]] void fail_short(const ByteSource& source, const char* format, const std::string& detail) {
  source.fail(cat("ends early: ", format, " ", detail), "the file was probably cut off while it was copied");
}

/// Throws IoError unless the file has `needed` bytes.
void require_bytes(const ByteSource& source, const char* format, std::uint64_t needed) {
  if (source.size() < needed) {
    fail_short(source, format, cat("needs ", needed, " bytes, has ", source.size()));
  }
}

/// CRC-32 of PNG (ISO 3309), a table of 256 entries.
std::uint32_t crc32(ByteSource& source, std::uint64_t begin, std::uint64_t end) {
  static const std::array<std::uint32_t, 256> table = [] {
    std::array<std::uint32_t, 256> t{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t c = i;
      for (int bit = 0; bit < 8; ++bit) c = (c >> 1) ^ ((c & 1) ? 0xEDB88320u : 0u);
      t[i] = c;
    }
    return t;
  }();
  std::uint32_t crc = 0xFFFFFFFFu;
  for (std::uint64_t at = begin; at < end; ++at) crc = table[(crc ^ source.u8(at)) & 0xFF] ^ (crc >> 8);
  return ~crc;
}

/// PNG: chunks [length][type][data][crc] up to IEND. The CRC covers type and data; a chunk matters when its
/// type begins with a capital, or holds the transparency. Returns the EXIF orientation.
int check_png(ByteSource& source, std::int64_t max_pixels, bool thorough) {
  require_bytes(source, "PNG", 33);
  if (!source.starts_with(12, "IHDR")) source.fail("damaged PNG: the first chunk is not IHDR");
  require_pixels(source, source.be32(16), source.be32(20), max_pixels);
  int orientation = 1;
  for (std::uint64_t at = 8;;) {
    if (at + 12 > source.size()) fail_short(source, "PNG", "has no IEND chunk");
    const std::uint64_t length = source.be32(at);
    const std::string type = source.text(at + 4, 4);
    if (at + 12 + length > source.size()) {
      const bool text =
          std::all_of(type.begin(), type.end(), [](unsigned char c) { return std::isalpha(c); });
      if (!text) source.fail(cat("damaged PNG: no chunk begins at byte ", at));
      fail_short(source, "PNG",
                 cat("chunk ", type, " has ", length, " bytes, ", source.size() - at - 12, " are left"));
    }
    const bool matters = std::isupper(static_cast<unsigned char>(type[0])) || type == "tRNS";
    if (thorough && matters && crc32(source, at + 4, at + 8 + length) != source.be32(at + 8 + length)) {
      source.fail(cat("damaged PNG: wrong checksum of chunk ", type, " at byte ", at));
    }
    if (type == "eXIf") orientation = exif_orientation(source, at + 8, at + 8 + length);
    if (type == "IEND") return orientation;
    at += 12 + length;
  }
}

/// Huffman tables of a JPEG: [class and number][counts of codes with 1 .. 16 bits][symbols] each. Counts that
/// no prefix code can have would make stb_image 2.27 write and read past the end of its own tables.
void check_huffman_tables(ByteSource& source, std::uint64_t at, std::uint64_t end) {
  while (at < end) {
    std::uint64_t codes = 0;
    std::uint64_t free_codes = 1;  // of the length at hand
    for (std::uint64_t bits = 1; bits <= 16; ++bits) {
      const std::uint64_t count = source.u8(at + bits);
      codes += count;
      free_codes *= 2;
      if (count > free_codes || codes > 256)
        source.fail("damaged JPEG: a Huffman table with impossible code lengths");
      free_codes -= count;
    }
    at += 17 + codes;
    if (at > end) source.fail("damaged JPEG: a Huffman table leaves its segment");
  }
}

/// Whether FF D9 occurs in [begin, end of the file), looked for from the end, since it usually is there.
bool has_end_marker(ByteSource& source, std::uint64_t begin) {
  for (std::uint64_t i = source.size(); i >= begin + 2; --i) {
    if (source.u8(i - 1) == 0xD9 && source.u8(i - 2) == 0xFF) return true;
  }
  return false;
}

/// JPEG: marker segments, scans of entropy-coded data between them, in which FF is followed by 00 or a
/// restart marker D0 .. D7, and the end marker FF D9, behind which some cameras append data of their own.
/// Unless `thorough`, the walk stops at the first scan and only looks whether an end marker follows.
ImageStructure check_jpeg(ByteSource& source, std::int64_t max_pixels, bool thorough) {
  ImageStructure found;
  bool has_frame = false, has_adobe = false;
  int components = 0;
  const auto complete = [&] {
    found.plain_cmyk = components == 4 && !has_adobe;
    return found;
  };
  for (std::uint64_t at = 2;;) {
    if (at + 2 > source.size())
      fail_short(source, "JPEG", has_frame ? "has no end marker" : "has no image data");
    const int marker = source.u8(at + 1);
    if (source.u8(at) != 0xFF || marker == 0xFF) {  // padding between segments
      ++at;
      continue;
    }
    if (marker == 0xD9 && has_frame) return complete();
    if (at + 4 > source.size()) fail_short(source, "JPEG", "stops inside its header");
    const std::uint64_t length = source.be16(at + 2);
    const std::uint64_t end = at + 2 + length;
    if (length < 2) source.fail(cat("damaged JPEG: a segment of length ", length, " at byte ", at));
    if (end > source.size()) fail_short(source, "JPEG", "stops inside its header");
    const bool is_frame =
        marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
    if (is_frame && length >= 8) {
      require_pixels(source, source.be16(at + 7), source.be16(at + 5), max_pixels);
      components = source.u8(at + 9);
      has_frame = true;
    }
    if (marker == 0xC4) check_huffman_tables(source, at + 4, end);
    if (marker == 0xE1 && length >= 16 && source.starts_with(at + 4, std::string("Exif\0", 5))) {
      found.orientation = exif_orientation(source, at + 10, end);
    }
    has_adobe = has_adobe || (marker == 0xEE && length >= 14 && source.starts_with(at + 4, "Adobe"));
    at = end;
    if (marker != 0xDA) continue;
    if (!has_frame) source.fail("damaged JPEG: no frame header before the first scan");
    if (!thorough) {
      if (!has_end_marker(source, at)) fail_short(source, "JPEG", "has no end marker");
      return complete();
    }
    auto in_scan = [](int after_ff) { return after_ff == 0 || (after_ff >= 0xD0 && after_ff <= 0xD7); };
    while (at + 1 < source.size() && (source.u8(at) != 0xFF || in_scan(source.u8(at + 1)))) ++at;
  }
}

/// BMP without compression (the only kind stb_image reads): pixel offset + height rows, padded to 4 bytes
/// each.
void check_bmp(ByteSource& source, std::int64_t max_pixels) {
  require_bytes(source, "BMP", 30);
  const std::uint64_t offset = source.le32(10);
  const bool core_header = source.le32(14) == 12;
  auto sign_extended = [&](std::uint64_t at) {
    return static_cast<std::int64_t>(static_cast<std::int32_t>(source.le32(at)));
  };
  const std::int64_t width = core_header ? source.le16(18) : sign_extended(18);
  const std::int64_t height = core_header ? source.le16(20) : sign_extended(22);
  const std::uint64_t bits = core_header ? source.le16(24) : source.le16(28);
  require_pixels(source, width, std::abs(height), max_pixels);  // a negative height means rows from the top
  const std::uint64_t row = (static_cast<std::uint64_t>(width) * bits + 31) / 32 * 4;
  require_bytes(source, "BMP", offset + row * static_cast<std::uint64_t>(std::abs(height)));
}

/// TGA: header, identification, palette, then pixels; run-length packets are counted through.
bool check_tga(ByteSource& source, std::int64_t max_pixels) {
  require_bytes(source, "TGA", 18);
  const int kind = source.u8(2);
  const bool packed = kind >= 8;
  const std::uint64_t palette_bytes = source.u8(1) == 1 ? source.le16(5) * ((source.u8(7) + 7u) / 8) : 0;
  const std::uint64_t width = source.le16(12);
  const std::uint64_t height = source.le16(14);
  const std::uint64_t pixel_bytes = (source.u8(16) + 7u) / 8;
  if (source.u8(1) > 1 || (kind & 7) < 1 || (kind & 7) > 3 || kind > 11)
    source.fail("damaged TGA: unknown image type");
  require_pixels(source, static_cast<std::int64_t>(width), static_cast<std::int64_t>(height), max_pixels);
  std::uint64_t at = 18 + source.u8(0) + palette_bytes;
  if (!packed) {
    require_bytes(source, "TGA", at + width * height * pixel_bytes);
  } else {
    for (std::uint64_t pixels = 0; pixels < width * height;) {
      if (at >= source.size())
        fail_short(source, "TGA", cat("has ", pixels, " of ", width * height, " pixels"));
      const std::uint64_t count = (source.u8(at) & 127u) + 1;
      at += 1 + (source.u8(at) >= 128 ? 1 : count) * pixel_bytes;
      pixels += count;
    }
    require_bytes(source, "TGA", at);
  }
  return source.u8(16) == 32 && (source.u8(17) & 15) == 0;
}

/// GIF: blocks up to the first image, whose data is a chain of counted blocks that ends with a zero.
void check_gif(ByteSource& source, std::int64_t max_pixels) {
  require_bytes(source, "GIF", 13);
  require_pixels(source, source.le16(6), source.le16(8), max_pixels);
  auto palette_bytes = [](int flags) { return (flags & 0x80) ? std::uint64_t{6} << (flags & 7) : 0; };
  std::uint64_t at = 13 + palette_bytes(source.u8(10));
  auto skip_chain = [&](std::uint64_t chain) {
    for (;;) {
      if (chain >= source.size()) fail_short(source, "GIF", "stops inside its first image");
      const std::uint64_t length = source.u8(chain);
      chain += 1 + length;
      if (length == 0) return chain;
    }
  };
  for (;;) {
    if (at >= source.size()) fail_short(source, "GIF", "has no image");
    const int block = source.u8(at);
    if (block == 0x2C) {
      require_bytes(source, "GIF", at + 10);
      skip_chain(at + 10 + palette_bytes(source.u8(at + 9)) + 1);
      return;
    }
    if (block == 0x3B) source.fail("damaged GIF: it holds no image");
    if (block != 0x21) source.fail(cat("damaged GIF: no block begins at byte ", at));
    at = skip_chain(at + 2);
  }
}

}  // namespace

void require_pixels(const ByteSource& source, std::int64_t width, std::int64_t height,
                    std::int64_t max_pixels) {
  if (width < 1 || height < 1) source.fail(cat("its header says ", width, " x ", height, " pixels"));
  if (width > max_pixels / height) {
    source.fail(cat("too large: ", width, " x ", height, " pixels, the limit is ", max_pixels),
                "raise the limit with --max-pixels if the image is meant");
  }
}

ImageStructure check_structure(ByteSource& source, std::int64_t max_pixels, bool thorough) {
  ImageStructure found;
  found.format = file_format(source);
  if (found.format.empty()) source.fail(cat("not an image: none of ", formats_read(), " by its content"));
  if (!is_read(found.format))
    source.fail(cat("its format, ", found.format, ", is not read"), unread_format_hint(found.format));
  if (found.format == "PNG") found.orientation = check_png(source, max_pixels, thorough);
  if (found.format == "JPEG") {
    found = check_jpeg(source, max_pixels, thorough);
    found.format = "JPEG";
  }
  if (found.format == "BMP") check_bmp(source, max_pixels);
  if (found.format == "TGA") found.ignore_alpha = check_tga(source, max_pixels);
  if (found.format == "GIF") check_gif(source, max_pixels);
  if (found.format == "PNM") read_pnm_header(source, max_pixels);
  return found;
}

}  // namespace llsa::nn

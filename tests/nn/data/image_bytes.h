// Small image files built byte by byte, so that tests can break them where they like.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace llsa::test {

using Bytes = std::vector<std::uint8_t>;

inline void append(Bytes& to, const Bytes& from) { to.insert(to.end(), from.begin(), from.end()); }
inline void append(Bytes& to, const std::string& text) { to.insert(to.end(), text.begin(), text.end()); }
inline void append_le(Bytes& to, std::uint32_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) to.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
}
inline void append_be(Bytes& to, std::uint32_t value, int bytes) {
  for (int i = bytes - 1; i >= 0; --i) to.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
}
inline std::string as_text(const Bytes& bytes) { return {bytes.begin(), bytes.end()}; }
inline Bytes head(const Bytes& bytes, std::size_t n) {
  return {bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(std::min(n, bytes.size()))};
}

/// CRC-32, bit by bit: another way than the reader's table.
inline std::uint32_t png_crc(const Bytes& bytes) {
  std::uint32_t crc = 0xFFFFFFFFu;
  for (const std::uint8_t byte : bytes) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) ? (crc >> 1) ^ 0xEDB88320u : crc >> 1;
  }
  return ~crc;
}

inline Bytes png_chunk(const std::string& type, const Bytes& data) {
  Bytes body;
  append(body, type);
  append(body, data);
  Bytes chunk;
  append_be(chunk, static_cast<std::uint32_t>(data.size()), 4);
  append(chunk, body);
  append_be(chunk, png_crc(body), 4);
  return chunk;
}

/// zlib stream of stored blocks.
inline Bytes zlib_stored(const Bytes& data) {
  Bytes out = {0x78, 0x01};
  std::size_t at = 0;
  do {
    const std::size_t n = std::min<std::size_t>(65535, data.size() - at);
    out.push_back(at + n == data.size());
    append_le(out, static_cast<std::uint32_t>(n), 2);
    append_le(out, static_cast<std::uint32_t>(~n) & 0xFFFF, 2);
    out.insert(out.end(), data.begin() + static_cast<std::ptrdiff_t>(at),
               data.begin() + static_cast<std::ptrdiff_t>(at + n));
    at += n;
  } while (at < data.size());
  std::uint32_t a = 1;
  std::uint32_t b = 0;
  for (const std::uint8_t byte : data) {
    a = (a + byte) % 65521;
    b = (b + a) % 65521;
  }
  append_be(out, b << 16 | a, 4);
  return out;
}

/// PNG of a colour type (0 grey, 2 RGB, 3 palette, 4 grey + alpha, 6 RGBA) from `rows` without filter bytes;
/// `extra` holds chunks that go before the data (palette, transparency).
inline Bytes make_png(int width, int height, int depth, int colour_type, const Bytes& rows,
                      const Bytes& extra = {}) {
  Bytes header;
  append_be(header, static_cast<std::uint32_t>(width), 4);
  append_be(header, static_cast<std::uint32_t>(height), 4);
  append(header, Bytes{static_cast<std::uint8_t>(depth), static_cast<std::uint8_t>(colour_type), 0, 0, 0});
  Bytes filtered;
  const std::size_t row = rows.size() / static_cast<std::size_t>(height);
  for (std::size_t y = 0; y < static_cast<std::size_t>(height); ++y) {
    filtered.push_back(0);
    filtered.insert(filtered.end(), rows.begin() + static_cast<std::ptrdiff_t>(y * row),
                    rows.begin() + static_cast<std::ptrdiff_t>((y + 1) * row));
  }
  Bytes png = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  append(png, png_chunk("IHDR", header));
  append(png, extra);
  append(png, png_chunk("IDAT", zlib_stored(filtered)));
  append(png, png_chunk("IEND", {}));
  return png;
}

/// RGB pixels that differ everywhere.
inline Bytes test_pixels(int width, int height, int salt = 0) {
  Bytes pixels;
  for (int i = 0; i < width * height * 3; ++i)
    pixels.push_back(static_cast<std::uint8_t>((i * 37 + salt * 101 + i / 7) % 251));
  return pixels;
}

inline Bytes rgb_png(int width, int height, int salt = 0) {
  return make_png(width, height, 8, 2, test_pixels(width, height, salt));
}

/// 24-bit BMP from RGB rows, stored from the bottom, or from the top with a negative height.
inline Bytes make_bmp(int width, int height, const Bytes& rgb, bool from_top = false) {
  const int padding = (4 - width * 3 % 4) % 4;
  Bytes bmp;
  append(bmp, "BM");
  append_le(bmp, static_cast<std::uint32_t>(54 + (width * 3 + padding) * height), 4);
  append_le(bmp, 0, 4);
  append_le(bmp, 54, 4);
  append_le(bmp, 40, 4);
  append_le(bmp, static_cast<std::uint32_t>(width), 4);
  append_le(bmp, static_cast<std::uint32_t>(from_top ? -height : height), 4);
  append_le(bmp, 1, 2);
  append_le(bmp, 24, 2);
  bmp.resize(54);
  for (int i = 0; i < height; ++i) {
    const int y = from_top ? i : height - 1 - i;
    for (int x = 0; x < width; ++x) {
      const std::uint8_t* p = rgb.data() + (y * width + x) * 3;
      append(bmp, Bytes{p[2], p[1], p[0]});
    }
    bmp.insert(bmp.end(), static_cast<std::size_t>(padding), 0);
  }
  return bmp;
}

/// TGA from the top with `bits` 24 or 32 (then `alpha_bits` is declared and the fourth byte is 0), plain or
/// in run-length packets.
inline Bytes make_tga(int width, int height, const Bytes& rgb, bool packed = false, int bits = 24,
                      int alpha_bits = 0) {
  Bytes tga = {0, 0, static_cast<std::uint8_t>(packed ? 10 : 2), 0, 0, 0, 0, 0, 0, 0, 0, 0};
  append_le(tga, static_cast<std::uint32_t>(width), 2);
  append_le(tga, static_cast<std::uint32_t>(height), 2);
  append(tga, Bytes{static_cast<std::uint8_t>(bits), static_cast<std::uint8_t>(0x20 | alpha_bits)});
  for (std::size_t i = 0; i < rgb.size(); i += 3) {
    if (packed) tga.push_back(i % 2 ? 0x80 : 0x00);  // a run of one, or one literal
    append(tga, Bytes{rgb[i + 2], rgb[i + 1], rgb[i]});
    if (bits == 32) tga.push_back(0);
  }
  return tga;
}

inline Bytes make_pnm(int width, int height, const Bytes& samples, const std::string& kind = "P6",
                      int largest = 255) {
  Bytes pnm;
  append(pnm, kind + "\n# made by a test\n" + std::to_string(width) + " " + std::to_string(height) + "\n" +
                  std::to_string(largest) + "\n");
  append(pnm, samples);
  return pnm;
}

/// GIF with a palette of four colours: black, red, green, blue; a transparent entry if >= 0. LZW codes of
/// three bits, with a clear code before every pixel so that they stay three bits wide.
inline Bytes make_gif(int width, int height, const Bytes& indices, int transparent = -1, int frames = 1) {
  Bytes gif;
  append(gif, "GIF89a");
  append_le(gif, static_cast<std::uint32_t>(width), 2);
  append_le(gif, static_cast<std::uint32_t>(height), 2);
  append(gif, Bytes{0x81, 0, 0, 0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255});
  for (int frame = 0; frame < frames; ++frame) {
    if (transparent >= 0)
      append(gif, Bytes{0x21, 0xF9, 4, 1, 0, 0, static_cast<std::uint8_t>(transparent), 0});
    gif.push_back(0x2C);
    append_le(gif, 0, 4);
    append_le(gif, static_cast<std::uint32_t>(width), 2);
    append_le(gif, static_cast<std::uint32_t>(height), 2);
    gif.push_back(0);
    Bytes codes;
    for (const std::uint8_t index : indices)
      append(codes, Bytes{4, static_cast<std::uint8_t>((index + frame) % 4)});
    codes.push_back(5);
    Bytes packed((codes.size() * 3 + 7) / 8, 0);
    for (std::size_t i = 0; i < codes.size() * 3; ++i) {
      if (codes[i / 3] >> (i % 3) & 1)
        packed[i / 8] = static_cast<std::uint8_t>(packed[i / 8] | 1 << (i % 8));
    }
    gif.push_back(2);
    for (std::size_t at = 0; at < packed.size(); at += 255) {
      const std::size_t n = std::min<std::size_t>(255, packed.size() - at);
      gif.push_back(static_cast<std::uint8_t>(n));
      gif.insert(gif.end(), packed.begin() + static_cast<std::ptrdiff_t>(at),
                 packed.begin() + static_cast<std::ptrdiff_t>(at + n));
    }
    gif.push_back(0);
  }
  gif.push_back(0x3B);
  return gif;
}

/// A grey 8 x 8 JPEG, darkest (21) in the upper left corner, brightest (220) in the lower right one; with an
/// EXIF block if `orientation` is not 1.
inline Bytes make_jpeg(int orientation = 1) {
  static const std::string hex =
      "ffd8ffe000104a46494600010100000100010000ffdb004300140e0f120f0d14121012171514181e32211e1c1c1e3d2c2e2432"
      "49404c4b47404645"
      "505a736250556d5645466488656d777b8182814e608d978c7d96737e817cffc0000b080008000801011100ffc4001400010000"
      "00000000000000"
      "00000000000002ffc4001810000203000000000000000000000000000004052231ffda0008010100003f000944654fffd9";
  Bytes jpeg;
  for (std::size_t i = 0; i < hex.size(); i += 2)
    jpeg.push_back(static_cast<std::uint8_t>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  if (orientation != 1) {
    Bytes exif = {0xFF, 0xE1};
    append_be(exif, 2 + 6 + 8 + 2 + 12 + 4, 2);
    append(exif, std::string("Exif\0\0", 6));
    append(exif, Bytes{'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1});
    append_be(exif, 0x0112, 2);
    append_be(exif, 3, 2);
    append_be(exif, 1, 4);
    append_be(exif, static_cast<std::uint32_t>(orientation), 2);
    append_be(exif, 0, 2);
    append_be(exif, 0, 4);
    jpeg.insert(jpeg.begin() + 2, exif.begin(), exif.end());
  }
  return jpeg;
}

}  // namespace llsa::test

// The only file that includes stb_image and stb_image_write; both are compiled into it with internal linkage,
// so that a program which uses them too can link with this library.
#include <cstdlib>

#include "core/error.h"

namespace {
/// A failed assertion of stb_image, on a file that passed its checks, must not end the program.
void require_in_decoder(bool ok) {
  if (!ok) throw llsa::IoError("[image] the decoder met an impossible state");
}
}  // namespace

#define STBI_ASSERT(condition) require_in_decoder(static_cast<bool>(condition))
// Zero-filled: a JPEG that uses a table which it does not define would read uninitialised memory.
#define STBI_MALLOC(bytes) std::calloc(1, bytes)
#define STBI_REALLOC(pointer, bytes) std::realloc(pointer, bytes)
#define STBI_FREE(pointer) std::free(pointer)
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_NO_STDIO
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_ONLY_BMP
#define STBI_ONLY_TGA
#define STBI_ONLY_GIF
#include <stb_image.h>

#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#include <stb_image_write.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <utility>

#include "core/atomic_file.h"
#include "nn/data/image_format.h"
#include "nn/data/image_io.h"
#include "nn/data/orientation.h"
#include "nn/data/pnm.h"
#include "nn/data/webp.h"

namespace llsa::nn {

namespace {

/// Lets stb_image read a header from a ByteSource.
struct HeaderReader {
  ByteSource& source;
  std::uint64_t at = 0;
  std::exception_ptr error;

  static int read(void* user, char* data, int size) {
    auto& self = *static_cast<HeaderReader*>(user);
    int count = 0;
    try {
      while (count < size && self.at < self.source.size())
        data[count++] = static_cast<char>(self.source.u8(self.at++));
    } catch (...) {  // an exception may not pass through C code
      self.error = std::current_exception();
      self.at = self.source.size();
    }
    return count;
  }
  static void skip(void* user, int n) {
    auto& self = *static_cast<HeaderReader*>(user);
    self.at = static_cast<std::uint64_t>(std::max<std::int64_t>(0, static_cast<std::int64_t>(self.at) + n));
  }
  static int eof(void* user) {
    const auto& self = *static_cast<HeaderReader*>(user);
    return self.at >= self.source.size();
  }
};

std::string stb_reason() {
  const char* reason = stbi_failure_reason();
  return reason ? reason : "unknown reason";
}

struct Probe {
  ImageInfo info;
  bool plain_cmyk = false;
  bool ignore_alpha = false;
};

Probe probe(ByteSource& source, const DecodeOptions& options, bool thorough) {
  if (source.size() > static_cast<std::uint64_t>(std::numeric_limits<int>::max())) {
    source.fail(cat("too large: ", source.size(), " bytes, the limit is ", std::numeric_limits<int>::max()));
  }
  const ImageStructure structure = check_structure(source, options.max_pixels, thorough);
  if (structure.format == "WebP") return {probe_webp(source, options.max_pixels)};
  if (structure.format == "PNM") {
    const PnmHeader header = read_pnm_header(source, options.max_pixels);
    return {{"PNM", static_cast<int>(header.width), static_cast<int>(header.height), header.channels}};
  }
  HeaderReader reader{source, 0, {}};
  const stbi_io_callbacks callbacks = {&HeaderReader::read, &HeaderReader::skip, &HeaderReader::eof};
  Probe result;
  ImageInfo& info = result.info;
  const int ok = stbi_info_from_callbacks(&callbacks, &reader, &info.width, &info.height, &info.channels);
  if (reader.error) std::rethrow_exception(reader.error);
  if (!ok) source.fail(cat("damaged or unsupported ", structure.format, ": ", stb_reason()));
  info.height = std::abs(info.height);  // of a BMP stored from the top
  require_pixels(source, info.width, info.height, options.max_pixels);
  info.format = structure.format;
  info.orientation = structure.orientation;
  result.plain_cmyk = structure.plain_cmyk;
  result.ignore_alpha = structure.ignore_alpha;
  return result;
}

/// Adds Adobe's marker behind the first marker of a JPEG. Without it, stb_image decodes four components as luminance and
/// colours. With it they are inks as Adobe stores them (255 = no ink), which other readers assume, too.
std::vector<std::uint8_t> with_adobe_marker(const std::uint8_t* bytes, std::uint64_t size) {
  static constexpr std::uint8_t kMarker[] = {0xFF, 0xEE, 0,   14, 'A', 'd', 'o', 'b',
                                             'e',  0,    100, 0,  0,   0,   0,   0};
  std::vector<std::uint8_t> out(bytes, bytes + size);
  out.insert(out.begin() + 2, std::begin(kMarker), std::end(kMarker));
  return out;
}

/// RGBA over the background.
Image compose(const std::uint8_t* rgba, int width, int height, Rgb background, bool ignore_alpha) {
  Image image(width, height);
  const std::size_t pixels = static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
  for (std::size_t i = 0; i < pixels; ++i) {
    const std::uint8_t* from = rgba + 4 * i;
    const unsigned alpha = ignore_alpha ? 255 : from[3];
    for (std::size_t c = 0; c < 3; ++c) {
      const unsigned mixed = from[c] * alpha + background[c] * (255 - alpha);
      image.pixels[3 * i + c] = static_cast<std::uint8_t>((mixed + 127) / 255);
    }
  }
  return image;
}

/// The pixels as stored.
Image decode(ByteSource& source, const std::uint8_t* bytes, const Probe& what, const DecodeOptions& options) {
  if (what.info.format == "PNM") return decode_pnm(source, options.max_pixels);
  if (what.info.format == "WebP")
    return compose(decode_webp(source, bytes).data(), what.info.width, what.info.height, options.background,
                   false);
  // A JPEG has no alpha; elsewhere the header may not know of it (a PNG with a transparent colour).
  const bool opaque = what.info.format == "JPEG";
  const int channels = opaque ? 3 : 4;
  int width = 0;
  int height = 0;
  int stored = 0;
  std::vector<std::uint8_t> marked;
  if (what.plain_cmyk) marked = with_adobe_marker(bytes, source.size());
  const std::uint64_t size = what.plain_cmyk ? marked.size() : source.size();
  const std::unique_ptr<stbi_uc, void (*)(void*)> data(
      stbi_load_from_memory(what.plain_cmyk ? marked.data() : bytes, static_cast<int>(size), &width, &height,
                            &stored, channels),
      stbi_image_free);
  if (!data) source.fail(cat("damaged ", what.info.format, ": ", stb_reason()));
  if (!opaque) return compose(data.get(), width, height, options.background, what.ignore_alpha);
  Image image(width, height);
  std::copy_n(data.get(), image.pixels.size(), image.pixels.begin());
  return image;
}

}  // namespace

Image::Image(int width_, int height_, Rgb colour) : width(width_), height(height_) {
  if (width < 1 || height < 1 || width > std::numeric_limits<int>::max() / 3 / height) {
    throw ShapeError(cat("[image] ", width, " x ", height,
                         " pixels: the sides must be at least 1 and the bytes below 2^31"));
  }
  pixels.resize(offset(0, height));
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = colour[i % 3];
}

ImageInfo probe_image(ByteSource& source, const DecodeOptions& options) {
  ImageInfo info = probe(source, options, false).info;
  if (options.exif && info.orientation >= 5) std::swap(info.width, info.height);
  return info;
}

ImageInfo probe_image(const std::string& path, const DecodeOptions& options) {
  ByteSource source(path);
  return probe_image(source, options);
}

Image decode_image(const std::string& path, const DecodeOptions& options) {
  ByteSource file(path);
  probe(file, options, false);  // checks the limits before the whole file is read
  const std::vector<std::uint8_t> bytes = file.read_all();
  return decode_image(bytes, path, options);
}

Image decode_image(const std::vector<std::uint8_t>& bytes, const std::string& name,
                   const DecodeOptions& options) {
  ByteSource source(bytes.data(), bytes.size(), name);
  const Probe what = probe(source, options, true);
  Image image = decode(source, bytes.data(), what, options);
  return options.exif ? upright(std::move(image), what.info.orientation) : image;
}

std::vector<std::uint8_t> encode_png(const Image& image) {
  if (image.width < 1 || image.height < 1 || image.pixels.size() != image.offset(0, image.height)) {
    throw ShapeError(cat("[image] cannot encode ", image.width, " x ", image.height, " pixels in ",
                         image.pixels.size(), " bytes"));
  }
  int length = 0;
  const std::unique_ptr<unsigned char, void (*)(void*)> png(
      stbi_write_png_to_mem(image.pixels.data(), image.width * 3, image.width, image.height, 3, &length),
      std::free);
  if (!png)
    throw OutOfMemoryError(
        cat("[image] no memory to encode ", image.width, " x ", image.height, " pixels as PNG"));
  return {png.get(), png.get() + length};
}

void write_png(const std::string& path, const Image& image) {
  const std::vector<std::uint8_t> bytes = encode_png(image);
  write_file_atomically(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

void write_bytes(const std::string& path, const std::vector<std::uint8_t>& bytes) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (!file) throw IoError(cat("[image] cannot create ", path, ": ", std::strerror(errno)));
  const bool written = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  if (std::fclose(file) != 0 || !written)
    throw IoError(cat("[image] cannot write ", path, ": ", std::strerror(errno)));
}

Rgb parse_colour(const std::string& text) {
  if (text == "black") return {0, 0, 0};
  if (text == "white") return {255, 255, 255};
  if (text == "grey" || text == "gray") return {128, 128, 128};
  Rgb colour = {};
  if (text.size() == 7 && text[0] == '#' &&
      std::all_of(text.begin() + 1, text.end(), [](unsigned char c) { return std::isxdigit(c); })) {
    for (std::size_t c = 0; c < 3; ++c) {
      colour[c] = static_cast<std::uint8_t>(std::stoi(text.substr(1 + 2 * c, 2), nullptr, 16));
    }
    return colour;
  }
  std::size_t at = 0;
  std::size_t parts = 0;
  while (parts < 3) {
    std::size_t digits = 0;
    int value = 0;
    while (at + digits < text.size() && digits < 4 &&
           std::isdigit(static_cast<unsigned char>(text[at + digits]))) {
      value = value * 10 + (text[at + digits++] - '0');
    }
    if (digits == 0 || value > 255) break;
    colour[parts++] = static_cast<std::uint8_t>(value);
    at += digits;
    if (parts < 3 && (at >= text.size() || text[at++] != ',')) break;
  }
  if (parts != 3 || at != text.size()) {
    throw ValueError(cat("[colour] \"", text, "\" is no colour"),
                     "use black, white, grey, #rrggbb, or r,g,b with 0 to 255");
  }
  return colour;
}

}  // namespace llsa::nn

// The format of an image file, and whether the file is complete, found from its structure without decoding a
// pixel.
//
// stb_image fills the missing part of a short BMP, TGA, PNM or GIF with black and ignores PNG checksums, so
// an interrupted copy would become training data. The functions here walk over the chunks, markers or blocks
// of the file, read a few bytes of each, and refuse such a file.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

namespace llsa::nn {

/// The extension of a file name in lower case with its dot, or nothing.
std::string lower_extension(const std::string& name);

/// Random access to the bytes of a file or of memory. Every accessor throws IoError for a position outside of
/// the data, so parsers need no checks of their own.
class ByteSource {
 public:
  /// Opens a regular file. Throws IoError: missing, no permission, not a regular file, empty.
  explicit ByteSource(const std::string& path);
  /// Bytes that outlive this object.
  ByteSource(const std::uint8_t* data, std::size_t size, std::string name);

  const std::string& name() const { return name_; }
  std::uint64_t size() const { return size_; }

  std::uint8_t u8(std::uint64_t at);
  std::uint32_t le16(std::uint64_t at) { return u8(at) | static_cast<std::uint32_t>(u8(at + 1)) << 8; }
  std::uint32_t le32(std::uint64_t at) { return le16(at) | le16(at + 2) << 16; }
  std::uint32_t be16(std::uint64_t at) { return static_cast<std::uint32_t>(u8(at)) << 8 | u8(at + 1); }
  std::uint32_t be32(std::uint64_t at) { return be16(at) << 16 | be16(at + 2); }
  bool starts_with(std::uint64_t at, const std::string& text);

  /// Everything, in memory.
  std::vector<std::uint8_t> read_all();

  /// Throws IoError "[image] <name>: <reason>".
  [[noreturn]] void fail(const std::string& reason, const std::string& hint = {}) const;

 private:
  void load_window(std::uint64_t at);

  std::string name_;
  std::uint64_t size_ = 0;
  std::shared_ptr<std::FILE> file_;   // null for memory
  std::vector<std::uint8_t> buffer_;  // window into the file
  const std::uint8_t* window_ = nullptr;
  std::uint64_t window_begin_ = 0;
  std::uint64_t window_end_ = 0;
};

struct ImageStructure {
  std::string format;         ///< "PNG", "JPEG", "BMP", "TGA", "GIF", "PNM"
  int orientation = 1;        ///< EXIF orientation of a JPEG
  bool ignore_alpha = false;  ///< a TGA that declares its fourth byte not to be alpha
};

/// Recognises the format by its signature (a TGA has none and is known by its extension) and walks the file
/// to its end. `thorough` also checks the checksum of every PNG chunk that matters and the Huffman tables of
/// every JPEG scan. Only a file that passed this is safe to give to stb_image. Throws IoError for an unknown
/// format, more than max_pixels, a file that ends too early, and damage.
ImageStructure check_structure(ByteSource& source, std::int64_t max_pixels, bool thorough);

/// Throws IoError unless 1 <= width * height <= max_pixels, without overflow.
void require_pixels(const ByteSource& source, std::int64_t width, std::int64_t height,
                    std::int64_t max_pixels);

}  // namespace llsa::nn

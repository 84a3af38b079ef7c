// The bytes of an image file, for parsers that need random access.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace llsa::nn {

/// Random access to the bytes of a file or of memory. Every accessor throws IoError for a position outside of
/// the data, so parsers need no checks of their own.
class ByteSource {
 public:
  /// Opens a regular file. Throws IoError: missing, no permission, not a regular file, empty.
  explicit ByteSource(const std::string& path);
  /// Bytes in memory, which must outlive this object.
  ByteSource(const std::uint8_t* data, std::size_t size, std::string name);

  const std::string& name() const { return name_; }
  std::uint64_t size() const { return size_; }

  std::uint8_t u8(std::uint64_t at);
  std::uint32_t le16(std::uint64_t at) { return u8(at) | static_cast<std::uint32_t>(u8(at + 1)) << 8; }
  std::uint32_t le32(std::uint64_t at) { return le16(at) | le16(at + 2) << 16; }
  std::uint32_t be16(std::uint64_t at) { return static_cast<std::uint32_t>(u8(at)) << 8 | u8(at + 1); }
  std::uint32_t be32(std::uint64_t at) { return be16(at) << 16 | be16(at + 2); }
  std::string text(std::uint64_t at, std::uint64_t bytes);
  /// Whether `text` stands at this position; false if it would extend beyond the data.
  bool starts_with(std::uint64_t at, std::string_view text);

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

/// A hash of the size of a file and of its first and last 8 KiB: it identifies the content, whatever the file's
/// name is, at the price of one or two reads. A file of up to 16 KiB is hashed whole. A change in the middle of a
/// larger file that keeps its size and both ends is not seen; this concerns mainly uncompressed formats (BMP, TGA,
/// PNM).
std::uint64_t content_hash(ByteSource& source);

}  // namespace llsa::nn

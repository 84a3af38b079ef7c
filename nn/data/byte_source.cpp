#include "nn/data/byte_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "core/hash.h"

namespace llsa::nn {

namespace {

constexpr std::uint64_t kWindow = 16384;  // bytes per read of a file
constexpr std::uint64_t kHashed = 8192;   // bytes of either end that content_hash() takes

}  // namespace

ByteSource::ByteSource(const std::string& path) : name_(path) {
  // Non-blocking, because opening a pipe would wait for a writer.
  const int fd = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) fail(cat("cannot be opened: ", std::strerror(errno)));
  struct stat info = {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    fail("not a regular file");
  }
  file_.reset(::fdopen(fd, "rb"), [fd](std::FILE* file) { file ? std::fclose(file) : ::close(fd); });
  if (!file_) fail(cat("cannot be opened: ", std::strerror(errno)));
  std::setvbuf(file_.get(), nullptr, _IONBF, 0);  // load_window() does the buffering
  size_ = static_cast<std::uint64_t>(info.st_size);
  if (size_ == 0) fail("the file is empty");
}

ByteSource::ByteSource(const std::uint8_t* data, std::size_t size, std::string name)
    : name_(std::move(name)), size_(size), window_(data), window_end_(size) {
  if (size_ == 0) fail("the file is empty");
}

void ByteSource::fail(const std::string& reason, const std::string& hint) const {
  throw IoError(cat("[image] ", name_, ": ", reason), hint);
}

void ByteSource::load_window(std::uint64_t at) {
  if (at >= size_ || !file_) fail(cat("ends early: byte ", at, " is needed, it has ", size_));
  // Windows are aligned, so that walking backwards is as cheap as forwards.
  const std::uint64_t begin = at / kWindow * kWindow;
  buffer_.resize(static_cast<std::size_t>(std::min(kWindow, size_ - begin)));
  errno = 0;
  if (::fseeko(file_.get(), static_cast<off_t>(begin), SEEK_SET) != 0 ||
      std::fread(buffer_.data(), 1, buffer_.size(), file_.get()) != buffer_.size()) {
    window_end_ = window_begin_;
    fail(cat("cannot be read: ", errno != 0 ? std::strerror(errno) : "it became shorter meanwhile"));
  }
  window_ = buffer_.data();
  window_begin_ = begin;
  window_end_ = begin + buffer_.size();
}

std::uint8_t ByteSource::u8(std::uint64_t at) {
  if (at < window_begin_ || at >= window_end_) load_window(at);
  return window_[at - window_begin_];
}

bool ByteSource::starts_with(std::uint64_t at, std::string_view text) {
  if (at > size_ || text.size() > size_ - at) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (u8(at + i) != static_cast<std::uint8_t>(text[i])) return false;
  }
  return true;
}

std::string ByteSource::text(std::uint64_t at, std::uint64_t bytes) {
  std::string out;
  for (std::uint64_t i = 0; i < bytes; ++i) out += static_cast<char>(u8(at + i));
  return out;
}

std::vector<std::uint8_t> ByteSource::read_all() {
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(size_));
  if (!file_) {
    std::copy(window_, window_ + size_, bytes.begin());
    return bytes;
  }
  errno = 0;
  if (::fseeko(file_.get(), 0, SEEK_SET) != 0 ||
      std::fread(bytes.data(), 1, bytes.size(), file_.get()) != bytes.size()) {
    fail(cat("cannot be read: ", errno != 0 ? std::strerror(errno) : "it became shorter meanwhile"));
  }
  return bytes;
}

std::uint64_t content_hash(ByteSource& source) {
  const std::uint64_t size = source.size();
  Fnv1a hash;
  hash.add_word(size);
  for (std::uint64_t at = 0; at < std::min(size, kHashed); ++at) hash.add(source.u8(at));
  for (std::uint64_t at = std::max(kHashed, size - std::min(size, kHashed)); at < size; ++at)
    hash.add(source.u8(at));
  return hash.value();
}

}  // namespace llsa::nn

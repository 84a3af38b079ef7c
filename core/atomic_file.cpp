#include "core/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "core/error.h"

namespace llsa {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMark = ".tmp-";
constexpr std::size_t kMaxWrite = std::size_t{1} << 30;  // bytes per system call

[[noreturn]] void throw_io(const char* what, const std::string& path, int reason) {
  std::string hint;
  if (reason == ENOSPC || reason == EDQUOT) hint = "free some space, or write to another disk";
  if (reason == EACCES || reason == EPERM || reason == EROFS) hint = "choose a folder that you may write to";
  if (reason == ENOENT) hint = "create the folder first";
  throw IoError(cat("[write] cannot ", what, " ", path, ": ", std::generic_category().message(reason)), hint);
}

/// Repeats a system call as long as a signal interrupts it.
template <class Call>
auto uninterrupted(Call&& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

std::string parent_of(const std::string& path) {
  const std::string parent = fs::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

/// "a/b" -> "a/.b.tmp-PID-N", with another N at every call.
std::string temporary_sibling(const std::string& path) {
  static std::atomic<unsigned> counter{0};
  const fs::path full(path);
  return (full.parent_path() / cat('.', full.filename().string(), kMark, getpid(), '-', counter++)).string();
}

/// Flushes one file or directory. A file system that cannot flush directories returns EINVAL, which is not a
/// failure.
void flush(const std::string& path, bool is_directory) {
  const int descriptor = uninterrupted([&] { return open(path.c_str(), O_RDONLY | O_CLOEXEC); });
  if (descriptor < 0) throw_io("open", path, errno);
  const int result = uninterrupted([&] { return fsync(descriptor); });
  const int reason = errno;
  close(descriptor);
  if (result < 0 && !(is_directory && reason == EINVAL)) throw_io("flush", path, reason);
}

void rename_or_throw(const std::string& from, const std::string& to) {
  if (rename(from.c_str(), to.c_str()) < 0) throw_io("write", to, errno);
}

void remove_quietly(const std::string& path) noexcept {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

std::string without_trailing_slash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

}  // namespace

AtomicFile::AtomicFile(const std::string& path) : path_(path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::exists(status)) {
    if (!fs::is_regular_file(status))
      throw IoError(cat("[write] cannot write ", path, ": it is no regular file"));
    path_ = fs::canonical(path, error).string();
    if (error) throw_io("resolve", path, error.value());
  }
  std::string temporary = temporary_sibling(path_);
  descriptor_ =
      uninterrupted([&] { return open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666); });
  if (descriptor_ < 0) throw_io("create", path_, errno);
  temporary_ = std::move(temporary);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) close(descriptor_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

void AtomicFile::fail(const char* what) const { throw_io(what, path_, errno); }

void AtomicFile::write(const void* data, std::size_t bytes) {
  const char* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written =
        uninterrupted([&] { return ::write(descriptor_, from, std::min(bytes, kMaxWrite)); });
    if (written < 0) fail("write");
    from += written;
    bytes -= static_cast<std::size_t>(written);
  }
}

void AtomicFile::commit() {
  if (uninterrupted([&] { return fsync(descriptor_); }) < 0) fail("flush");
  const int closed = close(descriptor_);
  descriptor_ = -1;
  if (closed < 0 && errno != EINTR) fail("close");
  rename_or_throw(temporary_, path_);
  temporary_.clear();
  flush(parent_of(path_), true);
}

void write_file_atomically(const std::string& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

AtomicDirectory::AtomicDirectory(const std::string& path) : path_(without_trailing_slash(path)) {
  std::error_code error;
  const fs::file_status status = fs::status(path_, error);
  if (fs::exists(status) && !fs::is_directory(status)) {
    throw IoError(cat("[write] cannot write ", path_, ": it is no directory"));
  }
  temporary_ = temporary_sibling(path_);
  if (mkdir(temporary_.c_str(), 0777) < 0) throw_io("create", path_, errno);
}

AtomicDirectory::~AtomicDirectory() {
  if (!committed_) remove_quietly(temporary_);
}

void AtomicDirectory::commit() {
  std::error_code error;
  for (fs::recursive_directory_iterator at(temporary_, error), end; !error && at != end;
       at.increment(error)) {
    const bool is_directory = at->is_directory(error);
    if (error) break;
    flush(at->path().string(), is_directory);
  }
  if (error) throw_io("list", temporary_, error.value());
  flush(temporary_, true);
  if (rename(temporary_.c_str(), path_.c_str()) < 0) {
    if (errno != ENOTEMPTY && errno != EEXIST) throw_io("write", path_, errno);
    if (renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), RENAME_EXCHANGE) == 0) {
      committed_ = true;
      flush(parent_of(path_), true);
      remove_quietly(temporary_);  // now the old content
      return;
    }
    if (errno != EINVAL && errno != ENOSYS) throw_io("write", path_, errno);
    const std::string old = temporary_sibling(path_);
    rename_or_throw(path_, old);
    try {
      rename_or_throw(temporary_, path_);
    } catch (const IoError&) {
      static_cast<void>(rename(old.c_str(), path_.c_str()));
      throw;
    }
    remove_quietly(old);
  }
  committed_ = true;
  flush(parent_of(path_), true);
}

void make_folder(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) throw_io("create the folder", path, error.value());
}

bool is_temporary_name(std::string_view name) {
  const std::size_t mark = name.rfind(kMark);
  if (mark == std::string_view::npos || mark < 2 || name.front() != '.') return false;
  const std::string_view numbers = name.substr(mark + kMark.size());
  const std::size_t dash = numbers.find('-');
  if (dash == std::string_view::npos || dash == 0 || dash + 1 == numbers.size()) return false;
  const auto all_digits = [](std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  };
  return all_digits(numbers.substr(0, dash)) && all_digits(numbers.substr(dash + 1));
}

int remove_stale_temporaries(const std::string& directory) {
  std::error_code error;
  std::vector<fs::path> stale;
  for (fs::directory_iterator at(directory, error), end; !error && at != end; at.increment(error)) {
    if (is_temporary_name(at->path().filename().string())) stale.push_back(at->path());
  }
  if (error == std::errc::no_such_file_or_directory) return 0;
  if (error) throw_io("list", directory, error.value());
  for (const fs::path& path : stale) {
    fs::remove_all(path, error);
    if (error) throw_io("remove", path.string(), error.value());
  }
  return static_cast<int>(stale.size());
}

}  // namespace llsa

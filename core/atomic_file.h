// Files and directories that appear whole or not at all: written under a temporary sibling name, flushed to
// the disk, renamed.
//
// After a failure or a kill at any moment the old content, if there was any, is untouched. A failure removes
// the temporary; a kill leaves it under a name that is_temporary_name() recognises. All failures are IoErrors
// with the path and the system's reason.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace llsa {

/// A file being written. Without commit() it vanishes with the object.
class AtomicFile {
 public:
  /// Opens the temporary in the directory of `path`, which has to exist. An existing `path` has to be a
  /// regular file (a link is followed).
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, std::size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  /// Flushes file and directory to the disk and gives the file its name. To be called once, after the last
  /// write.
  void commit();

 private:
  [[noreturn]] void fail(const char* what) const;

  std::string path_;       // as resolved
  std::string temporary_;  // empty once committed
  int descriptor_ = -1;
};

void write_file_atomically(const std::string& path, std::string_view bytes);

/// A directory being filled. Without commit() it vanishes with the object, content included.
class AtomicDirectory {
 public:
  /// Creates the temporary directory beside `path`, whose parent has to exist.
  explicit AtomicDirectory(const std::string& path);
  ~AtomicDirectory();
  AtomicDirectory(const AtomicDirectory&) = delete;
  AtomicDirectory& operator=(const AtomicDirectory&) = delete;

  /// Where the files have to be written to before commit().
  const std::string& temporary() const { return temporary_; }
  /// Flushes all files and directories and gives the directory its name. An existing directory of that name
  /// is exchanged for it in one step, then deleted (file systems without an exchange: moved aside first; a
  /// kill between the two moves leaves both under temporary names).
  void commit();

 private:
  std::string path_;
  std::string temporary_;
  bool committed_ = false;
};

/// True for the last component of names that this file makes: ".NAME.tmp-PID-N".
bool is_temporary_name(std::string_view name);

/// Removes what interrupted writers have left directly in `directory` and returns how many entries there
/// were. Nobody else may be writing there at the time. A directory that does not exist has none.
int remove_stale_temporaries(const std::string& directory);

}  // namespace llsa

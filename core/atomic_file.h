// Files and directories that appear whole or not at all. They are written under a temporary name in the same
// directory, flushed to the disk, and renamed.
//
// If writing fails, or the process is killed at any moment, the old content is untouched. A failure removes the
// temporary. After a kill it stays, under a name that is_temporary_name() recognises. Every failure is an
// IoError with the path and the system's reason.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace llsa {

/// A file being written. Without commit() it vanishes with the object.
class AtomicFile {
 public:
  /// Opens the temporary file in the directory of `path`, which has to exist. If `path` exists, it has to be a
  /// regular file. Links are followed.
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, std::size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  /// Flushes file and directory to the disk and gives the file its name. Call it once, after the last write.
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

  /// The folder to write the files to before commit().
  const std::string& temporary() const { return temporary_; }
  /// Flushes all files and directories and gives the directory its name. An existing directory of that name is
  /// exchanged for it in one step and then deleted. A file system that cannot exchange moves the old one aside
  /// first; if the process is killed between the two moves, both have temporary names.
  void commit();

 private:
  std::string path_;
  std::string temporary_;
  bool committed_ = false;
};

/// Makes a folder, and those above it, where they do not exist.
void make_folder(const std::string& path);

/// True for the last component of names that this file makes: ".NAME.tmp-PID-N".
bool is_temporary_name(std::string_view name);

/// Removes what killed processes have left in `directory` (not in its sub-directories) and returns how many
/// entries it removed. No other process may write there meanwhile. Returns 0 if the directory does not exist.
int remove_stale_temporaries(const std::string& directory);

}  // namespace llsa

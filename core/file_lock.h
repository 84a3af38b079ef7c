// A lock between processes, by a file.
#pragma once

#include <string>

namespace llsa {

/// The lock that goes with a file, which is made if it is missing and stays when the lock is given back. The
/// system gives it back, too, when the process ends in whatever way. On file systems without locks everybody
/// gets it.
class FileLock {
 public:
  /// Tries to take the lock; does not wait. Throws IoError when the file cannot be opened.
  explicit FileLock(const std::string& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

  /// False when somebody else has it: another process, or another FileLock of this one.
  bool held() const { return held_; }

 private:
  int descriptor_ = -1;
  bool held_ = false;
};

}  // namespace llsa

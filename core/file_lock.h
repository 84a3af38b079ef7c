// A lock between processes, by a file.
#pragma once

#include <string>

namespace llsa {

/// Holds the lock of a file. The file is made if it does not exist, and stays when the lock is released. The
/// system also releases the lock when the process ends, even if it is killed. On a file system without locks,
/// everybody gets the lock.
class FileLock {
 public:
  /// Tries to take the lock, without waiting. Throws IoError when the file cannot be opened.
  explicit FileLock(const std::string& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

  /// False when somebody else has it: another process, or another FileLock of this one.
  bool held() const { return held_; }

  /// Whether a process holds the lock of a file. During the check no other process can take the lock. False if the
  /// file does not exist or may not be read.
  static bool is_taken(const std::string& path);

 private:
  int descriptor_ = -1;
  bool held_ = false;
};

}  // namespace llsa

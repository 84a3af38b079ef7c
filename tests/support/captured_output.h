// What a scope writes to standard output or to standard error, kept from the terminal.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <string>

#include "../../core/error.h"

namespace llsa::test {

class CapturedOutput {
 public:
  /// Of stdout or stderr.
  explicit CapturedOutput(std::FILE* stream = stdout) : stream_(stream), file_(std::tmpfile()) {
    std::fflush(stream_);
    before_ = dup(fileno(stream_));
    if (file_ && before_ >= 0 && dup2(fileno(file_), fileno(stream_)) >= 0) return;
    if (before_ >= 0) close(before_);
    if (file_) std::fclose(file_);
    throw IoError("standard output or standard error cannot be captured");
  }
  ~CapturedOutput() {
    restore();
    std::fclose(file_);
  }
  CapturedOutput(const CapturedOutput&) = delete;
  CapturedOutput& operator=(const CapturedOutput&) = delete;

  /// Ends the capture; what was written.
  std::string text() {
    restore();
    std::string all;
    char buffer[4096];
    if (std::fseek(file_, 0, SEEK_SET) != 0)
      throw IoError("[capture] the file cannot be read from its beginning");
    while (const std::size_t n = std::fread(buffer, 1, sizeof buffer, file_)) all.append(buffer, n);
    return all;
  }

 private:
  void restore() {
    if (before_ < 0) return;
    std::fflush(stream_);
    dup2(before_, fileno(stream_));
    close(before_);
    before_ = -1;
  }

  std::FILE* stream_;
  std::FILE* file_;
  int before_ = -1;
};

}  // namespace llsa::test

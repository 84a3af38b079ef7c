// Standard output of a scope, kept from the terminal.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <string>

#include "../../core/error.h"

namespace llsa::test {

class CapturedOutput {
 public:
  CapturedOutput() : file_(std::tmpfile()) {
    std::fflush(stdout);
    before_ = dup(STDOUT_FILENO);
    if (!file_ || before_ < 0 || dup2(fileno(file_), STDOUT_FILENO) < 0)
      throw IoError("standard output cannot be captured");
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
    std::rewind(file_);
    while (const std::size_t n = std::fread(buffer, 1, sizeof buffer, file_)) all.append(buffer, n);
    return all;
  }

 private:
  void restore() {
    if (before_ < 0) return;
    std::fflush(stdout);
    dup2(before_, STDOUT_FILENO);
    close(before_);
    before_ = -1;
  }

  std::FILE* file_;
  int before_ = -1;
};

}  // namespace llsa::test

// The live line of a training run.
#pragma once

#include <chrono>
#include <string>

#include "nn/train.h"

namespace llsa::apps {

/// "1:05", "2:03:04", "?" when unknown.
std::string clock_text(double seconds);
/// "812", "12.3k", "4.56M".
std::string count_text(double value);
/// "830 KiB", "1.5 MiB", "12 MiB".
std::string bytes_text(double bytes);

/// One line of a report, without a line end.
std::string report_text(const nn::StepReport& report);

/// Prints to standard error: on a terminal one line that is overwritten, elsewhere a line at most every ten
/// seconds.
class Progress {
 public:
  Progress();
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void report(const nn::StepReport& report);
  void message(const std::string& text);

 private:
  bool live_;
  bool line_open_ = false;
  bool printed_ = false;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace llsa::apps

// The live line of a training run.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "nn/callbacks.h"
#include "nn/train.h"
#include "nn/train_memory.h"

namespace llsa::apps {

/// "1:05", "2:03:04", "?" when unknown.
std::string clock_text(double seconds);
/// "812", "12.3k", "4.56M".
std::string count_text(double value);
using nn::bytes_text;

/// One line of a report, without a line end, the most important numbers first.
std::string report_text(const nn::StepReport& report);

/// A bar, then the report, cut to `columns`, because a line that wraps cannot be overwritten. A narrow line has no bar.
std::string live_text(const nn::StepReport& report, std::size_t columns, bool colour);

/// How much is printed, and where to.
struct ProgressStyle {
  bool quiet = false;   ///< messages only
  bool live = false;    ///< one line that is overwritten, else a line at most every ten seconds
  bool colour = false;  ///< of the bar

  /// For standard error: live on a terminal, in colour unless NO_COLOR (no-color.org) is set.
  static ProgressStyle of_terminal(bool quiet);
};

/// Prints to standard error. A report is shown with the running mean of the losses. Its time to the end is computed from
/// elapsed time, so that it includes sample grids, checkpoints and evaluations.
class Progress {
 public:
  explicit Progress(const ProgressStyle& style);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void report(const nn::StepReport& report);
  void message(const std::string& text);

 private:
  using Clock = std::chrono::steady_clock;

  nn::StepReport smoothed(const nn::StepReport& report);

  const ProgressStyle style_;
  bool line_open_ = false;
  int reports_ = 0;
  double loss_ = 0;  // running mean
  std::int64_t first_step_ = 0;
  Clock::time_point first_, printed_;
};

/// Counts images on standard error, "WHAT: 64 / 1000 images": on a terminal in one line that is overwritten, elsewhere in a
/// line every ten seconds.
class Counter {
 public:
  explicit Counter(std::string what);
  ~Counter();
  Counter(const Counter&) = delete;
  Counter& operator=(const Counter&) = delete;

  void operator()(std::int64_t done, std::int64_t total, const std::string& more = {});
  nn::Callbacks callbacks() { return {.on_progress = std::ref(*this), .should_stop = {}}; }

 private:
  const std::string what_;
  const bool live_ = ProgressStyle::of_terminal(false).live;
  bool line_open_ = false;
  std::chrono::steady_clock::time_point printed_ = std::chrono::steady_clock::now();
};

}  // namespace llsa::apps

#include "apps/llsa/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <cstdio>

namespace llsa::apps {
namespace {

template <class... Values>
std::string print(const char* format, Values... values) {
  char buffer[256];
  std::snprintf(buffer, sizeof buffer, format, values...);
  return buffer;
}

std::size_t terminal_columns() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 80;
}

}  // namespace

std::string clock_text(double seconds) {
  if (!(seconds >= 0 && seconds < 1e9)) return "?";
  const auto s = static_cast<long long>(std::llround(seconds));
  return s < 3600 ? print("%lld:%02lld", s / 60, s % 60)
                  : print("%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
}

std::string count_text(double value) {
  if (value < 1e4) return print("%.0f", value);
  return value < 1e6 ? print("%.1fk", value / 1e3) : print("%.2fM", value / 1e6);
}

std::string bytes_text(double bytes) {
  constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  for (; bytes >= 1024 && unit + 1 < kUnits.size(); ++unit) bytes /= 1024;
  return print(bytes < 10 && unit > 0 ? "%.1f %s" : "%.0f %s", bytes, kUnits[unit]);
}

std::string report_text(const nn::StepReport& report) {
  std::string evaluation;
  if (report.held_out_loss) evaluation += print("  held-out %.4f", *report.held_out_loss);
  if (report.score)
    evaluation += report.score->over_real ? print("  score/real %.2f", *report.score->over_real)
                                          : print("  FID %.2f", report.score->value);
  return print(
      "step %lld/%lld  loss %.4f%s  |grad| %.3g  lr %.2e  %s tok/s  ETA %s  data %.0f%%  mem %s (peak %s, "
      "cached %s)",
      static_cast<long long>(report.step), static_cast<long long>(report.steps), report.loss,
      evaluation.c_str(), report.gradient_norm, report.learning_rate,
      count_text(report.tokens_per_second).c_str(), clock_text(report.remaining_seconds).c_str(),
      100 * report.data_wait, bytes_text(static_cast<double>(report.memory.active)).c_str(),
      bytes_text(static_cast<double>(report.memory.peak)).c_str(),
      bytes_text(static_cast<double>(report.memory.cached)).c_str());
}

Progress::Progress() : live_(isatty(STDERR_FILENO) != 0) {}

Progress::~Progress() {
  if (line_open_) std::fputc('\n', stderr);
}

void Progress::report(const nn::StepReport& report) {
  using std::chrono::steady_clock;
  if (live_) {
    // A line that wraps could not be overwritten, so its end, which matters least, is cut off.
    std::fprintf(stderr, "\r%s\033[K", report_text(report).substr(0, terminal_columns() - 1).c_str());
    line_open_ = true;
    return;
  }
  const auto now = steady_clock::now();
  if (printed_ && report.step < report.steps && now - last_ < std::chrono::seconds(10)) return;
  printed_ = true;
  last_ = now;
  std::fprintf(stderr, "%s\n", report_text(report).c_str());
}

void Progress::message(const std::string& text) {
  std::fprintf(stderr, "%s%s\n", line_open_ ? "\r\033[K" : "", text.c_str());
  line_open_ = false;
}

}  // namespace llsa::apps

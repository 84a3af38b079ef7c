#include "apps/llsa/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "core/error.h"

namespace llsa::apps {
namespace {

constexpr std::chrono::seconds kInterval{10};  // between lines that are not overwritten
constexpr std::size_t kBarWidth = 20, kColumnsWithBar = 60;
constexpr double kLeastWeight = 0.1;  // of the last loss in the running mean

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

std::string report_text(const nn::StepReport& report) {
  std::string evaluation;
  if (report.held_out_loss) evaluation += print("  held-out %.4f", *report.held_out_loss);
  if (report.score)
    evaluation += report.score->over_real ? print("  score/real %.2f", *report.score->over_real)
                                          : print("  FID %.2f", report.score->value);
  const std::string ranks = report.rank_wait ? print("  ranks %.0f%%", 100 * *report.rank_wait) : "";
  return print(
      "step %lld/%lld  loss %.4f%s  %s tok/s  ETA %s  |grad| %.3g  lr %.2e  data %.0f%%%s  mem %s (peak %s, "
      "cached %s)",
      static_cast<long long>(report.step), static_cast<long long>(report.steps), report.loss,
      evaluation.c_str(), count_text(report.tokens_per_second).c_str(),
      clock_text(report.remaining_seconds).c_str(), report.gradient_norm, report.learning_rate,
      100 * report.data_wait, ranks.c_str(), bytes_text(static_cast<double>(report.memory.active)).c_str(),
      bytes_text(static_cast<double>(report.memory.peak)).c_str(),
      bytes_text(static_cast<double>(report.memory.cached)).c_str());
}

std::string live_text(const nn::StepReport& report, std::size_t columns, bool colour) {
  const std::string text = report_text(report);
  if (columns < kColumnsWithBar) return text.substr(0, columns);
  const double share =
      report.steps > 0 ? std::clamp(static_cast<double>(report.step) / report.steps, 0.0, 1.0) : 0;
  const auto full = static_cast<std::size_t>(share * kBarWidth);
  const std::string bar = std::string(full, '=') + std::string(kBarWidth - full, '.');
  const std::string percent = print(" %3.0f%%  ", std::floor(100 * share));
  return (colour ? "\033[36m" + bar + "\033[0m" : bar) + percent +
         text.substr(0, columns - kBarWidth - percent.size());
}

ProgressStyle ProgressStyle::of_terminal(bool quiet) {
  const auto variable = [](const char* name) {
    return std::string(std::getenv(name) ? std::getenv(name) : "");
  };
  ProgressStyle style;
  style.quiet = quiet;
  style.live = isatty(STDERR_FILENO) != 0 && variable("TERM") != "dumb";
  style.colour = style.live && variable("NO_COLOR").empty();
  return style;
}

Progress::Progress(const ProgressStyle& style) : style_(style) {}

Progress::~Progress() {
  if (line_open_) std::fputc('\n', stderr);
}

nn::StepReport Progress::smoothed(const nn::StepReport& report) {
  const auto now = Clock::now();
  if (++reports_ == 1) {
    first_ = now;
    first_step_ = report.step;
  }
  loss_ += std::max(kLeastWeight, 1.0 / reports_) * (report.loss - loss_);
  nn::StepReport shown = report;
  shown.loss = loss_;
  if (report.step > first_step_)
    shown.remaining_seconds = std::chrono::duration<double>(now - first_).count() *
                              static_cast<double>(report.steps - report.step) /
                              static_cast<double>(report.step - first_step_);
  return shown;
}

void Progress::report(const nn::StepReport& report) {
  if (style_.quiet) return;
  const nn::StepReport shown = smoothed(report);
  if (style_.live) {
    std::fprintf(stderr, "\r%s\033[K", live_text(shown, terminal_columns() - 1, style_.colour).c_str());
    line_open_ = true;
    return;
  }
  const auto now = Clock::now();
  if (reports_ > 1 && report.step < report.steps && now - printed_ < kInterval) return;
  printed_ = now;
  std::fprintf(stderr, "%s\n", report_text(shown).c_str());
}

void Progress::message(const std::string& text) {
  std::fprintf(stderr, "%s%s\n", line_open_ ? "\r\033[K" : "", text.c_str());
  line_open_ = false;
}

Counter::Counter(std::string what) : what_(std::move(what)) {}

Counter::~Counter() {
  if (line_open_) std::fprintf(stderr, "\r\033[K");
}

void Counter::operator()(std::int64_t done, std::int64_t total, const std::string& more) {
  const std::string text = cat(what_, ": ", done, " / ", total, " images", more);
  const auto now = std::chrono::steady_clock::now();
  if (live_) {
    std::fprintf(stderr, "\r%s\033[K", text.substr(0, terminal_columns() - 1).c_str());
    line_open_ = true;
  } else if (now - printed_ >= kInterval) {
    printed_ = now;
    std::fprintf(stderr, "%s\n", text.c_str());
  }
}

}  // namespace llsa::apps

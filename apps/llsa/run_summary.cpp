#include "apps/llsa/run_summary.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <limits>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/number.h"
#include "core/text_file.h"
#include "nn/checkpoint/run_folder.h"
#include "nn/checkpoint/training_state.h"
#include "nn/json.h"
#include "nn/train_log.h"
#include "nn/train_options.h"

namespace llsa::apps {
namespace {

namespace fs = std::filesystem;

void read_line(const std::string& text, const std::string& path, RunLog& log) {
  nn::JsonObject line(text, path);
  const std::int64_t step = line.integer("step", -1, 0, std::numeric_limits<std::int64_t>::max());
  if (step < 0) throw ValueError(cat(path, ": a line without a step"));
  log.step = std::max(log.step, step);
  for (const std::string& note : line.strings("notes", {})) log.notes.emplace_back(step, note);
  if (const std::string machine = line.string("machine", ""); !machine.empty())
    log.machines.emplace_back(step, machine);
  for (const auto& [key, value] : line.entries())
    if (const auto number = as_number<double>(value); number && std::isfinite(*number) && key != "step")
      log.series[key].push_back({.x = static_cast<double>(step), .y = *number});
}

double seconds_since_write(const std::string& path) {
  std::error_code error;
  const auto written = fs::last_write_time(path, error);
  if (error) return 0;
  return std::max(0.0, std::chrono::duration<double>(fs::file_time_type::clock::now() - written).count());
}

}  // namespace

const std::vector<PlotPoint>& RunLog::points(const std::string& key) const {
  static const std::vector<PlotPoint> none;
  const auto found = series.find(key);
  return found == series.end() ? none : found->second;
}

std::optional<double> RunLog::last(const std::string& key) const {
  const auto& all = points(key);
  return all.empty() ? std::nullopt : std::optional(all.back().y);
}

RunLog read_run_log(const std::string& path) {
  RunLog log;
  const std::string text = read_text_file(path, nn::kLongestLog);
  for (std::size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    try {
      read_line(text.substr(begin, end - begin), path, log);
    } catch (const ValueError&) {
      ++log.damaged_lines;
    }
  }
  return log;
}

const char* name_of(RunState state) {
  switch (state) {
    case RunState::running:
      return "running";
    case RunState::finished:
      return "finished";
    case RunState::stopped:
      return "stopped";
    case RunState::damaged:
      break;
  }
  return "damaged";
}

bool is_run_folder(const std::string& folder) {
  const nn::RunFolder files(folder);
  std::error_code ignored;
  return fs::exists(files.log_path(), ignored) ||
         (fs::exists(files.config_path(), ignored) && fs::exists(folder + "/checkpoints", ignored));
}

RunSummary summary_of(const std::string& folder) {
  const nn::RunFolder files(folder);
  RunSummary summary;
  const bool running = files.locked();
  try {
    summary.age = seconds_since_write(files.log_path());
    summary.log = read_run_log(files.log_path());
    summary.step = summary.log.step;
    summary.steps = nn::TrainOptions::parse(read_text_file(files.config_path()), files.config_path()).steps;
    const auto latest = files.latest();
    if (latest) summary.step = std::max(summary.step, latest->step);
    if (running) {
      summary.state = RunState::running;
      return summary;  // the process that trains removes and adds checkpoints
    }
    const std::int64_t saved = latest ? nn::read_training_step(latest->path) : 0;
    if (summary.log.damaged_lines > 0)
      throw ValueError(cat(files.log_path(), ": ", summary.log.damaged_lines,
                           summary.log.damaged_lines == 1 ? " damaged line" : " damaged lines"));
    summary.state = latest && saved >= summary.steps ? RunState::finished : RunState::stopped;
  } catch (const Error& error) {
    summary.state = RunState::damaged;
    summary.damage = error.what();
  }
  return summary;
}

std::vector<std::string> sample_grids(const std::string& folder) {
  std::vector<std::string> paths;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder + "/samples", ignored))
    if (entry.path().extension() == ".png" && !is_temporary_name(entry.path().filename().string()))
      paths.push_back(entry.path().string());
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::string age_text(double seconds) {
  const auto whole = [](double value) { return static_cast<long long>(value); };
  if (seconds < 60) return cat(whole(seconds), " s");
  if (seconds < 3600) return cat(whole(seconds / 60), " min");
  if (seconds < 48 * 3600.0) return cat(whole(seconds / 3600), " h");
  return cat(whole(seconds / 86400), " d");
}

}  // namespace llsa::apps

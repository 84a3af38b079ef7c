// What the folder of a run says of it: how far it is, and its log.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/bench/plot.h"

namespace llsa::apps {

/// The numbers of log.jsonl by their keys, as points (step, value). What is not finite is no number there.
struct RunLog {
  std::map<std::string, std::vector<PlotPoint>> series;
  std::vector<std::pair<std::int64_t, std::string>> notes;  ///< what happened at a step, in sentences
  std::int64_t step = 0;                                    ///< of the last line
  std::int64_t damaged_lines = 0;  ///< that are no JSON objects with a step; they are left out

  const std::vector<PlotPoint>& points(const std::string& key) const;
  std::optional<double> last(const std::string& key) const;
};

/// Ignores a last line without its end, which is being written. Throws IoError.
RunLog read_run_log(const std::string& path);

enum class RunState { running, finished, stopped, damaged };
const char* name_of(RunState state);

struct RunSummary {
  std::string folder;
  RunState state = RunState::damaged;
  std::string damage;      ///< what is wrong with a damaged run
  std::int64_t step = 0;   ///< of the last line of the log, or of a later checkpoint
  std::int64_t steps = 0;  ///< of the whole run; 0 when the configuration cannot be read
  double age = 0;          ///< seconds since the log was written to
  RunLog log;
};

/// Whether a folder looks like that of a run: it has a log, or a configuration and checkpoints.
bool is_run_folder(const std::string& folder);

/// A run that another process trains is running; one whose last checkpoint is that of the last step is finished. Damaged is
/// one whose configuration, log or last checkpoint cannot be read. Throws nothing of these.
RunSummary summary_of(const std::string& folder);

/// "5 s", "3 min", "7 h", "12 d".
std::string age_text(double seconds);

}  // namespace llsa::apps

// The state of a run, read from its folder: its progress and its log.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/bench/plot.h"

namespace llsa::apps {

/// The numbers of log.jsonl by their keys, as points (step, value). Values that are not finite are left out.
struct RunLog {
  using Sentences = std::vector<std::pair<std::int64_t, std::string>>;  // with their steps

  std::map<std::string, std::vector<PlotPoint>> series;
  Sentences notes;                 ///< on what happened at a step
  Sentences machines;              ///< on what trains the run from a step on
  std::int64_t step = 0;           ///< of the last line
  std::int64_t damaged_lines = 0;  ///< lines that are not JSON objects with a step; they are left out

  const std::vector<PlotPoint>& points(const std::string& key) const;
  std::optional<double> last(const std::string& key) const;
};

/// Ignores an incomplete last line, which is being written. Throws IoError.
RunLog read_run_log(const std::string& path);

enum class RunState { running, finished, stopped, damaged };
const char* name_of(RunState state);

struct RunSummary {
  RunState state = RunState::damaged;
  std::string damage;      ///< what is wrong with a damaged run
  std::int64_t step = 0;   ///< of the last line of the log, or of a later checkpoint
  std::int64_t steps = 0;  ///< of the whole run; 0 when the configuration cannot be read
  double age = 0;          ///< seconds since the log was written to
  RunLog log;
};

/// Whether a folder looks like that of a run: it has a log, or a configuration and checkpoints.
bool is_run_folder(const std::string& folder);

/// The state is `running` if another process trains the run, and `finished` if its last checkpoint is that of the last step.
/// It is `damaged`, without an exception, if configuration, log or last checkpoint cannot be read.
RunSummary summary_of(const std::string& folder);

/// Paths of the sample grids of a run, by rising step.
std::vector<std::string> sample_grids(const std::string& folder);

/// "5 s", "3 min", "7 h", "12 d".
std::string age_text(double seconds);

}  // namespace llsa::apps

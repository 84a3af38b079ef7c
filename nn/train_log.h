// log.jsonl: one JSON object per logged step, so that a run can be plotted, resumed and compared.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "train.h"

namespace llsa::nn {

/// The longest log, in bytes, that a resumed run reads: some twenty million lines.
inline constexpr std::size_t kLongestLog = std::size_t{4} << 30;

class TrainLog {
 public:
  /// Opens the log for the steps after `step`. Drops lines of later steps, which a resumed run will write
  /// again, and damaged lines, such as a half-written last one. A message and a note in the log say that damaged
  /// lines were dropped. Throws IoError.
  TrainLog(const std::string& path, std::int64_t step, std::function<void(const std::string&)> on_message);
  ~TrainLog();
  TrainLog(const TrainLog&) = delete;
  TrainLog& operator=(const TrainLog&) = delete;

  /// Appends one line and hands it to the system. Numbers that are not finite are written as strings. A line
  /// that cannot be written is left out; a message reports the first of several such lines in a row.
  void write(const StepReport& report);
  /// The same for an evaluation, on a line of its own.
  void write(const EvaluationReport& report);
  /// The same for sentences on what happened at a step, such as changes of the configuration.
  void write(std::int64_t step, const std::vector<std::string>& notes);
  /// The same for a sentence on the machine that trains from this step on.
  void write_machine(std::int64_t step, const std::string& machine);
  /// The last step of which the log has an evaluation; -1 when there is none.
  std::int64_t evaluated_step() const { return evaluated_step_; }

 private:
  void append(const std::string& line);

  std::string path_;
  std::function<void(const std::string&)> on_message_;
  bool failing_ = false;
  std::int64_t evaluated_step_ = -1;
  int descriptor_ = -1;
};

}  // namespace llsa::nn

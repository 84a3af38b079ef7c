// log.jsonl: one JSON object per logged step, so that a run can be plotted, resumed and compared.
#pragma once

#include <cstdint>
#include <string>

#include "train.h"

namespace llsa::nn {

class TrainLog {
 public:
  /// Opens the log for the steps after `step`. Drops lines of later steps, which a resumed run will write
  /// again, and a half-written last line. Throws IoError.
  TrainLog(const std::string& path, std::int64_t step);
  ~TrainLog();
  TrainLog(const TrainLog&) = delete;
  TrainLog& operator=(const TrainLog&) = delete;

  /// Appends one line and hands it to the system. Numbers that are not finite are written as strings. Throws
  /// IoError.
  void write(const StepReport& report);
  /// The same for an evaluation, on a line of its own.
  void write(const EvaluationReport& report);
  /// The last step of which the log has an evaluation; -1 when there is none.
  std::int64_t evaluated_step() const { return evaluated_step_; }

 private:
  void append(const std::string& line);

  std::string path_;
  std::int64_t evaluated_step_ = -1;
  int descriptor_ = -1;
};

}  // namespace llsa::nn

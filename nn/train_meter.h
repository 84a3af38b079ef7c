// How a run is going: losses and gradient norms are read back, added up, logged, reported, and looked into
// when they stop being finite.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "../core/tensor.h"
#include "data/loader.h"
#include "train_folder.h"

namespace llsa::nn {

/// Tokens of a step, over all its micro-batches. In a model with stages, an image counts with the tokens of its own stage.
std::int64_t tokens_per_step(const ImageModel& model, const TrainOptions& options);

class TrainMeter {
 public:
  /// For a run that has done `step` steps. What the run refers to, and the folder, must outlive this.
  TrainMeter(const TrainRun& run, TrainFolder& folder, std::int64_t step);

  /// Does the next step. Its loss and gradient norm stay on the device until read(), so that a step waits for
  /// nothing. False if the host wanted to stop in the middle of the step. In that case, and if the step
  /// fails, weights and training state are as before the step.
  bool do_step();
  /// Steps done.
  std::int64_t step() const { return step_; }

  /// Whether read() has to be called before the next step.
  bool full() const { return static_cast<std::int64_t>(positions_.size()) == kMostUnread; }
  /// Brings losses and norms to the host. If one is not finite, it logs the step, looks for the first op that
  /// went wrong and throws NonFiniteError.
  void read();
  /// Logs the steps that were read since the last call, if there are any. Call it before a checkpoint of this step
  /// is saved: then a run that is killed between the two has no gap in its log.
  void log();
  /// Reports to the host what log() has logged.
  void report();
  /// Reports to the host without a line in the log. The next line includes these steps, too.
  void report_early();
  /// Mean loss of the last report.
  double loss() const { return last_loss_; }

  /// Time between these two does not count for the speed of training.
  void pause();
  void unpause();

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::int64_t kMostUnread = 1024;

  std::int64_t step_of(std::size_t slot) const;
  StepReport report_of(std::int64_t step, double loss, double norm) const;
  StepReport measured() const;
  void report_failures();
  void log_diverged(std::size_t slot, double loss, double norm);
  [[noreturn]] void fail_at(std::size_t slot, double loss);
  void start_interval();

  const TrainRun run_;
  TrainFolder& folder_;
  std::int64_t step_;

  // Of the steps that were not read yet.
  Tensor losses_;                       // f32 [kMostUnread]
  Tensor norms_;                        // f64 [kMostUnread]
  std::vector<LoaderState> positions_;  // of the loader before each of them

  // Of the steps since the last report.
  double loss_sum_ = 0;
  std::int64_t count_ = 0;
  double last_norm_ = 0;
  std::int64_t reported_step_;
  Clock::time_point start_, paused_;
  double wait_before_ = 0, rank_wait_before_ = 0, rank_wait_paused_ = 0;
  std::uint64_t synchronizations_before_ = 0;

  std::optional<StepReport> logged_;  // and not yet reported
  double last_loss_ = 0;
  std::size_t failures_told_ = 0;  // of this process
  std::set<std::string> told_;
};

}  // namespace llsa::nn

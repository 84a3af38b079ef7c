// What train() keeps in a run folder: it begins or resumes a run there, saves checkpoints, draws sample
// grids.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../core/text_file.h"
#include "checkpoint/run_folder.h"
#include "checkpoint/training_state.h"
#include "checkpoint/tuning_file.h"
#include "data/image_folder.h"
#include "data/loader.h"
#include "ema.h"
#include "eval/drawn_score.h"
#include "eval/held_out_loss.h"
#include "image_model.h"
#include "optim.h"
#include "schedule.h"
#include "train.h"
#include "train_log.h"
#include "train_step.h"

namespace llsa::nn {

/// The parts that train() puts together, for what works beside the step. `host` has no empty callback.
struct TrainRun {
  const TrainOptions& options;
  const TrainCallbacks& host;
  const ImageFolder& images;
  Communicator& ranks;
  Context& ctx;
  Loader& loader;
  ImageModel& model;
  AdamW& optimizer;
  Ema& ema;
  const Schedule& schedule;
  TrainStep& step;
  std::optional<HeldOutLoss>& held_out;  ///< nothing when no image is held out
  std::optional<DrawnScorer>& scorer;    ///< nothing when no score is wanted
};

/// All processes of a run call the same functions in the same order. They share the work of drawing and evaluating; the first
/// process alone writes.
class TrainFolder {
 public:
  /// Touches nothing yet. What the run refers to must outlive this.
  TrainFolder(const TrainRun& run, const std::string& path);

  /// Makes the folder ready for a new run, with the weights of options.init_from if it names a checkpoint.
  /// Throws ValueError if the folder holds a run already; IoError for files, and if a run there has lost its
  /// checkpoints.
  void begin();
  /// Brings everything to the state of the latest checkpoint and returns the steps that were done. Changes
  /// of settings and images are reported by on_message and logged. Throws ValueError for changes that are
  /// impossible or that the host does not allow, and what reading a damaged checkpoint throws, with a hint that
  /// names the checkpoint before it.
  std::int64_t resume();

  /// Writes a line of the log.
  void log(const StepReport& report);
  /// Computes held-out loss and score of the averaged weights after `step` steps, logs and reports them. If no earlier
  /// loss is as low, saves a checkpoint and marks it as the best. Ends early, with nothing done, if the host
  /// wants to stop. Failures are reported by on_message.
  void evaluate(std::int64_t step);
  const EvaluationReport& last_evaluation() const { return evaluation_; }
  /// Whether the log has an evaluation of this step, or a later one.
  bool evaluated(std::int64_t step) const;
  /// Path of the best checkpoint; empty when there is none.
  std::string best_checkpoint() const;
  /// Writes the checkpoint after `step` steps, and removes the oldest ones beyond options.keep. If an old one
  /// cannot be removed, on_message says so. If the checkpoint cannot be written, throws IoError if it is `required` or
  /// there are several processes; otherwise on_message says which file failed, which checkpoint there still is, and when the next try is.
  void save(std::int64_t step, bool required = true);
  /// Draws images with the averaged weights and writes them as a grid. Ends early, without a grid, when the
  /// host wants to stop. Failures are reported by on_message.
  void draw(std::int64_t step);
  bool has_grid(std::int64_t step) const;

  /// The last checkpoint; empty when there is none yet.
  const std::string& checkpoint() const { return checkpoint_; }
  std::int64_t saved_step() const { return saved_step_; }
  /// The last step that was saved, or for which save() threw.
  std::int64_t tried_step() const { return tried_step_; }

 private:
  bool leads() const { return run_.ranks.leads(); }
  // So that no process counts this wait as one of training.
  void wait_for_all() const { run_.ranks.any(false); }
  std::vector<std::string> require_allowed(const std::vector<SettingChange>& changes) const;
  void settle_products(bool resumed);
  template <class Work>
  void attempt_together(const std::string& failure, Work work) const;
  EvaluationReport evaluate_average(std::int64_t step, const Tensor& average, bool& done);
  void write_checkpoint(std::int64_t step);
  std::optional<double> held_out_loss();
  std::vector<std::string> class_names() const;  // of the model; none without classes

  const TrainRun run_;
  const TrainingState state_;  // without the average, which is the checkpoint's model in the diffusers layout
  RunFolder files_;
  TuningFile tuning_;
  std::unique_ptr<TrainLog> log_;  // of the first process
  std::string checkpoint_;
  std::int64_t saved_step_ = -1, tried_step_ = -1;
  EvaluationReport evaluation_;
};

/// How a run draws its images; count, seed and batch keep their defaults.
SampleOptions sampling_options(const TrainOptions& options);

/// The configuration that train() has stored with a checkpoint. Throws IoError when there is none.
TrainOptions read_training_options(const std::string& checkpoint);
/// That of the latest checkpoint of a run. Throws also ValueError; the hint names the checkpoint before it.
TrainOptions stored_options(const std::string& run);

}  // namespace llsa::nn

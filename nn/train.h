// Training of a DiT or a PixelFlow: a folder of images in, a run folder with log, sample grids and checkpoints out.
//
// To train a model of your own, or within a loop of your own, put the parts together yourself: a Loader, a
// Denoiser, flow_objective, a TrainStep, write_training_state (examples/own_model.cpp).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "../core/communicator.h"
#include "../core/context.h"
#include "../core/profiler.h"
#include "eval/drawn_score.h"
#include "train_options.h"

namespace llsa::nn {

/// A logged step. Means are over the steps since the previous report. The fifth step after a start is reported, too,
/// without a line in the log, so that a user soon knows how long the run will take.
struct StepReport {
  std::int64_t step = 0;     ///< steps done
  std::int64_t steps = 0;    ///< of the whole run
  double loss = 0;           ///< mean
  double gradient_norm = 0;  ///< of the last step, before clipping
  double learning_rate = 0;
  double tokens_per_second = 0;  ///< training alone: sampling and saving are not counted
  double data_wait = 0;          ///< share of the time spent waiting for images
  /// Share of the time spent waiting for other processes and sending to them, the mean over all; nothing in a run of one.
  std::optional<double> rank_wait = {};
  double remaining_seconds = 0;
  AllocatorStats memory;
  std::optional<double> held_out_loss;  ///< of the last evaluation since the run was begun or resumed
  std::optional<DrawnScore> score;      ///< likewise
  std::uint64_t synchronizations = 0;   ///< how often the host waited for the device since the last report
};

/// An evaluation of the averaged weights: the loss on images that are not trained on (eval/held_out_loss.h), and the
/// distance of drawn images to the training images (eval/drawn_score.h). Each is set if the options ask for it.
struct EvaluationReport {
  std::int64_t step = 0;  ///< steps done
  std::optional<double> held_out_loss = {};
  std::optional<DrawnScore> score = {};
  bool best = false;  ///< the lowest held-out loss so far: the checkpoint of this step is kept
};

/// Steps that are timed op by op (core/profiler.h), the first of this call of train() after three others. They have
/// the same bits; a step that is to be replayed from graphs is captured after them.
struct ProfileRequest {
  std::int64_t steps = 0;  ///< 0 = none
  bool ranges = false;     ///< NVTX ranges, too
  /// Told once, after these steps or, if it comes earlier, at the end.
  std::function<void(const Profile&)> on_profile = {};
};

/// As in callbacks.h: each may be empty, and is called by the thread that called train().
struct TrainCallbacks {
  std::function<void(const StepReport&)> on_report = {};
  std::function<void(const EvaluationReport&)> on_evaluation = {};
  /// A sentence for the user: warnings, files written.
  std::function<void(const std::string&)> on_message = {};
  /// Asked before every step, between its micro-batches, after every step of drawing images and between two
  /// batches of held-out images; true = save and return. A grid or an evaluation that this interrupts is made
  /// when the run is resumed.
  std::function<bool()> should_stop = {};
  /// Asked before a run is resumed on other images, or with changed settings whose rule is OnResume::ask; gets a
  /// sentence for each change. True = resume with the changes. Without this callback they are an error.
  std::function<bool(const std::vector<std::string>&)> allow_changes = {};
  ProfileRequest profile = {};
};

struct TrainResult {
  std::int64_t step = 0;
  bool stopped = false;  ///< by should_stop, before the last step
  double loss = 0;       ///< mean of the last report
  std::string checkpoint;
  std::string best_checkpoint;  ///< that with the lowest held-out loss; empty when there is none
};

/// Runs until options.steps or should_stop. With `resume` the run goes on from the latest checkpoint in
/// `out`, bit for bit as if it had not been interrupted, unless a setting has changed (OnResume).
///
/// Throws ValueError for a configuration that does not fit the data or the stored one, IoError for files,
/// NonFiniteError, naming step, op and last good checkpoint, when loss or gradient stop being finite, and
/// DeviceError for options.graph without a CUDA device. If another error ends the run, such as an
/// exception of a callback, the steps that were done are saved first. Failures that do not touch the weights do
/// not end the run: if a sample grid, an evaluation, a line of the log, or a checkpoint before the last one cannot be
/// written, or a step cannot be captured, on_message says so.
///
/// With several processes each calls this with its communicator and the same options. They share the micro-batches of a
/// step, the optimiser and the averages; the weights are the same bits for any number of processes, which may change on
/// resume. The first one writes the run folder and calls the callbacks; should_stop and allow_changes are called by all.
/// Throws ValueError in all processes if they differ in program, configuration or images, or if there are more processes
/// than micro-batches. After any other exception the other processes wait in vain: end them. Nothing is saved then. A checkpoint
/// that cannot be written is always such an exception.
TrainResult train(const TrainOptions& options, const std::string& out, bool resume,
                  const TrainCallbacks& callbacks, Communicator& ranks = one_process());

}  // namespace llsa::nn

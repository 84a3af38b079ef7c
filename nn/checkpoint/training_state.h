// What training needs besides the averaged weights to go on bit for bit, for the parameters of any model.
//
//   training_state/state.json          format_version, counters, the loader's position
//   training_state/state.safetensors   for every parameter NAME, in its shape: weights.NAME, what the optimiser
//                                      keeps (adam_m.NAME, adam_v.NAME) and, where the average is not stored
//                                      elsewhere, average.NAME and those beside it, average_2.NAME ..
//
// Format versions: 1 has no format_version and no average. 2 is what this version writes. All of them are
// read; a newer one is refused.
#pragma once

#include <cstdint>
#include <string>

#include "../data/loader.h"
#include "../ema.h"
#include "../optim.h"
#include "../parameters.h"
#include "run_folder.h"

namespace llsa::nn {

/// Everything that changes from step to step. A part that is null is neither written nor restored.
struct TrainingState {
  Parameters& parameters;
  Optimizer& optimizer;
  Ema* ema = nullptr;
  Loader* loader = nullptr;
};

/// Begins or resumes a run of a training loop of your own: prepares the folder, restores the latest
/// checkpoint if there is one, and returns the steps that were done by then, else 0. Throws as
/// restore_training_state and RunFolder::prepare.
std::int64_t resume_latest(RunFolder& run, const TrainingState& state);
/// Saves a checkpoint that holds the training state alone, and returns its path. Throws IoError.
std::string save_checkpoint(const RunFolder& run, const TrainingState& state, std::int64_t step);

/// The folder of the files above, inside a checkpoint.
std::string training_state_folder(const std::string& checkpoint);
/// True when a checkpoint can be resumed from.
bool has_training_state(const std::string& checkpoint);

/// Writes the files above below an existing folder, after `step` optimiser steps. Throws IoError. Where processes share the
/// parameters all of them have to call it, and the first one writes.
void write_training_state(const std::string& checkpoint, const TrainingState& state, std::int64_t step);

/// Brings the state back and returns the steps that were done. Throws IoError or ValueError naming the file
/// and what is wrong: missing, unknown or wrongly shaped tensors, values that are not finite, other images, a
/// newer format. The parts may then be restored partly, and must not be used.
std::int64_t restore_training_state(const std::string& checkpoint, const TrainingState& state);

/// Where the loader stood at a checkpoint. Throws as restore_training_state.
LoaderState read_loader_state(const std::string& checkpoint);
/// Steps done at a checkpoint. Throws as restore_training_state.
std::int64_t read_training_step(const std::string& checkpoint);

}  // namespace llsa::nn

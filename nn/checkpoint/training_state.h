// What a run needs besides its averaged weights to go on bit for bit: raw weights, moments, counters, the
// loader's position.
#pragma once

#include <cstdint>
#include <string>

#include "../data/loader.h"
#include "../ema.h"
#include "../optim.h"
#include "../parameters.h"
#include "../train_options.h"

namespace llsa::nn {

struct TrainingCounters {
  std::int64_t step = 0;  ///< optimiser steps done
  LoaderState loader;     ///< where the next batch begins
};

/// Writes directory/training_state. Throws IoError.
void write_training_state(const std::string& directory, const TrainOptions& options, const Parameters& store,
                          const AdamW& optimizer, const TrainingCounters& counters);

/// True when a checkpoint can be resumed from.
bool has_training_state(const std::string& directory);

/// Steps done at a checkpoint. Throws as restore_training_state.
std::int64_t read_training_step(const std::string& directory);

/// The configuration stored with a checkpoint. Throws IoError when the directory has no training state.
TrainOptions read_training_options(const std::string& directory);

/// Brings weights, moments, averages and counters back; the averages come from the published weights beside
/// the state. Throws IoError or ValueError naming the file and what is wrong; the arguments are then as they
/// were or partly restored, and not to be used.
TrainingCounters restore_training_state(const std::string& directory, Parameters& store, AdamW& optimizer,
                                        Ema& ema);

}  // namespace llsa::nn

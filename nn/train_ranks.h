// What the processes of a run settle among themselves before it begins. All functions are collective.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "../core/communicator.h"
#include "../core/device_choice.h"
#include "train_options.h"

namespace llsa::nn {

/// The device of this process: the processes of a machine take its GPUs in turn, unless a number is given.
DeviceChoice device_of_rank(const TrainOptions& options, const LocalRank& local);

/// The threads of this process, for ThreadPool: those of options.threads or LLSA_THREADS; else processes that may run on
/// the same processors divide them.
int threads_of_rank(const TrainOptions& options, Communicator& ranks);

/// Throws ValueError, in all processes, if one of them is another program, or if one of the texts, each given with what it
/// describes, is not the same everywhere. The message names the first line in which they differ.
void require_alike(Communicator& ranks, const std::vector<std::pair<std::string, std::string>>& texts);

}  // namespace llsa::nn

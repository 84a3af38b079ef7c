// Where the memory of a training run goes, from its options alone.
//
// Counted are the tensors that a step keeps for backward, each rounded up as the allocator rounds it. What backward and the
// kernels take on top, for a moment, is an estimate.
#pragma once

#include <cstdint>
#include <string>

#include "../core/device.h"
#include "train_options.h"

namespace llsa::nn {

/// Bytes. On the CPU all of them are in one memory; with a GPU, `prepared` and `cache` are the host's.
struct TrainMemory {
  double weights = 0;      ///< in f32, and the copy that a model in bf16 computes with
  double gradients = 0;    ///< in f32
  double moments = 0;      ///< of AdamW, in f32
  double averages = 0;     ///< of the weights, in f32
  double activations = 0;  ///< of a micro-batch, until its backward
  double images = 0;       ///< a micro-batch, its noise, its target
  double working = 0;      ///< estimated: gradients of activations, and what kernels take
  double prepared = 0;     ///< micro-batches that workers hold ready
  double cache = 0;        ///< decoded images (cache_mb), when it has filled

  double state() const { return weights + gradients + moments + averages; }
  /// Where the model computes.
  double model() const { return state() + activations + images + working; }
  double loader() const { return prepared + cache; }
};

/// `options.model` is resolved, with its classes; options.device does not matter. `parameters` is Parameters::flat_size(), `files`
/// the number of images to train on.
TrainMemory train_memory(const TrainOptions& options, std::int64_t parameters, std::int64_t files,
                         Device device);

/// The same as a table of several lines.
std::string memory_table(const TrainMemory& memory, Device device);

/// Throws OutOfMemoryError if the options need more than is free, even without what is estimated: `room` bytes where the model
/// computes, which on the CPU is also where the loader works; on a GPU the loader has `host_room`. The message says what is
/// needed and what is free, the hint which other settings fit.
void require_memory(const TrainOptions& options, std::int64_t parameters, std::int64_t files, Device device,
                    double room, double host_room);

/// "830 KiB", "1.5 MiB", "12 MiB".
std::string bytes_text(double bytes);

}  // namespace llsa::nn

// The memory of a training run, computed from its options alone.
//
// The tensors that a step keeps for backward are counted one by one, each rounded up as the allocator rounds it. The
// temporary memory of backward and of the kernels is an estimate.
#pragma once

#include <cstdint>
#include <string>

#include "../core/device.h"
#include "train_options.h"

namespace llsa::nn {

/// Bytes. On the CPU all of them are in one memory; with a GPU, `prepared` and `cache` are the host's.
struct TrainMemory {
  double weights = 0;    ///< in f32, and the copy that a model in bf16 computes with
  double gradients = 0;  ///< in f32; with several micro-batches also their sum, and what other processes send
  double moments = 0;    ///< of AdamW, in f32
  double averages = 0;   ///< of the weights, in f32
  double activations = 0;  ///< of a micro-batch, until its backward
  double images = 0;       ///< a micro-batch, its noise, its target
  double working = 0;      ///< estimated: gradients of activations, temporary memory of kernels
  double network = 0;      ///< the Inception network of FID
  /// Estimated: the most that a sample grid, a score or a held-out loss takes in addition to state() and the network, while no
  /// step is under way. It has a copy of the weights, in whose place the averaged ones are, and one pass without a graph.
  double evaluation = 0;
  double prepared = 0;  ///< micro-batches that workers hold ready
  double cache = 0;     ///< decoded images (cache_mb), when the cache is full

  double state() const { return weights + gradients + moments + averages; }
  double step() const { return activations + images + working; }
  /// What an evaluation takes more than a step.
  double beyond_step() const { return evaluation > step() ? evaluation - step() : 0; }
  /// Bytes in the memory of the device that computes.
  double model() const { return state() + network + step() + beyond_step(); }
  double loader() const { return prepared + cache; }
};

/// `options.model` has to be resolved, with its classes; options.device does not matter. `parameters` is
/// Parameters::flat_size(), `files` the number of images to train on. Of `processes` that share the parameters it is the
/// memory of one.
TrainMemory train_memory(const TrainOptions& options, std::int64_t parameters, std::int64_t files,
                         Device device, int processes = 1);

/// The same as a table of several lines, without rows of nothing.
std::string memory_table(const TrainMemory& memory, Device device);

/// Throws OutOfMemoryError if the options need more memory than is free, even without the estimated parts. `room` bytes are
/// free where the model computes. On the CPU the loader works in the same memory; on a GPU it has `host_room` bytes of the
/// host. The message says what is needed and what is free; the hint says which settings would fit.
void require_memory(const TrainOptions& options, std::int64_t parameters, std::int64_t files, Device device,
                    double room, double host_room, int processes = 1);

/// "830 KiB", "1.5 MiB", "12 MiB".
std::string bytes_text(double bytes);

}  // namespace llsa::nn

// One optimiser step of a training run, and its replay from CUDA graphs.
//
//   for each micro-batch:  take it  [ noise it; loss; backward; add up the loss ]
//   learning rate                   [ clip; AdamW, average; gradients to zero ]
//
// What stands in brackets is the same work on the same addresses in every step, since all that changes lives
// in tensors: the batch, its sample ids that key the random numbers, learning rate, step number. So on a CUDA
// device it may be captured, each bracket in a graph of its own; then the number of micro-batches does not
// matter, and what comes from the host comes between the replays. A replay gives the bits of the first steps,
// which are computed op by op and make the tables that are made once.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "../autograd/var.h"
#include "../core/cuda/graph.h"
#include "../core/function_ref.h"
#include "data/loader.h"
#include "diffusion/flow.h"
#include "dit.h"
#include "ema.h"
#include "optim.h"

namespace llsa::nn {

struct TrainStepOptions {
  FlowOptions flow;
  std::int64_t accumulate = 1;  ///< micro-batches
  bool graph = false;           ///< replay graphs; needs a CUDA device
};

/// Throws DeviceError unless the context's device can replay graphs: the CPU cannot.
void require_graphs(const Context& ctx);

class TrainStep {
 public:
  /// Writes the next micro-batch into the tensors of a batch, in the order of the context's work.
  using NextBatch = std::function<void(const Batch&)>;
  /// Told in a sentence when the step has been captured, or could not be.
  using Say = std::function<void(const std::string&)>;

  /// `batch` is where next() leaves what a step computes with: the same tensors each time. All references
  /// must outlive the step. Throws DeviceError for a graph on the CPU.
  TrainStep(Dit& model, AdamW& optimizer, Ema& ema, Batch batch, NextBatch next,
            const TrainStepOptions& options, Say say);
  /// With the batches of a loader.
  TrainStep(Dit& model, AdamW& optimizer, Ema& ema, Loader& loader, const TrainStepOptions& options, Say say);

  /// One step. A step that cannot be captured (out of memory, an op that needs the host) is not an error:
  /// this one and all later ones are computed op by op.
  void run(double learning_rate);
  /// f32, a scalar: the loss of the last step, the mean over its micro-batches. Always the same tensor.
  const Tensor& loss() const { return loss_; }
  /// Whether steps are replayed from now on.
  bool captured() const { return micro_batch_graph_ && update_graph_; }

  /// Takes a batch and computes its loss, for a backward() of the caller's. Not part of a step.
  Var next_loss();

 private:
  Var batch_loss();
  void micro_batch();
  void update();
  void run_or_replay(std::unique_ptr<cuda::Graph>& graph, FunctionRef<void()> work);
  void go_on_without(const Error& error);

  Context& ctx_;
  Dit& model_;
  AdamW& optimizer_;
  Ema& ema_;
  Batch batch_;  // of the current micro-batch
  NextBatch next_;
  TrainStepOptions options_;
  Say say_;
  Tensor loss_;
  std::int64_t steps_ = 0;
  std::unique_ptr<cuda::Graph> micro_batch_graph_, update_graph_;
};

}  // namespace llsa::nn

// One optimiser step of any model and any loss, and its replay from CUDA graphs.
//
//   for each micro-batch:  next  [ loss; backward; add up loss and gradient ]
//   learning rate                [ clip; update, average; gradients to zero ]
//
// With several micro-batches, the gradient of each forms in a buffer of zeros, and is then added to a sum, in the order of
// the micro-batches. Where processes share the parameters (Parameters::share), rank r of W computes the micro-batches
// r, r + W, ..; after each round of W the gradients are added in their order again (slices.h). So a step gives the same
// bits for any number of processes.
//
// What stands in brackets is the same work on the same addresses in every step, because everything that
// changes lives in tensors: the batch, the sample ids that key the random numbers, learning rate, step
// number. On a CUDA device each bracket may therefore be captured in a graph of its own. The number of
// micro-batches does not matter then, and what comes from the host comes between the replays. The first step
// is always computed op by op, because it makes what is made once, and so are those in which a Profiler runs. A replay gives
// the same bits. With several processes only the first bracket is captured, without the sums, which take place between the
// processes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "../autograd/var.h"
#include "../core/cuda/graph.h"
#include "../core/function_ref.h"
#include "ema.h"
#include "optim.h"
#include "parameters.h"

namespace llsa::nn {

/// Throws DeviceError unless the context's device can replay graphs: the CPU cannot.
void require_graphs(const Context& ctx);

/// What a training step minimises.
struct Objective {
  /// Brings the next micro-batch to where `loss` finds it. With graphs these are the same tensors each time,
  /// and they are written in the order of the context's work. May be empty when `loss` does it all.
  std::function<void()> next = {};
  /// The loss of that micro-batch: a scalar to call backward() on. With graphs it must not wait for the
  /// device or copy from the host, and it runs once for all replays.
  std::function<Var()> loss = {};
};

struct TrainStepOptions {
  /// Micro-batches per step, of all processes together; their losses and gradients are averaged.
  std::int64_t accumulate = 1;
  bool graph = false;  ///< replay graphs; needs a CUDA device
  /// Told in a sentence when the step has been captured, or could not be. May be empty.
  std::function<void(const std::string&)> on_message = {};
  /// Asked between two micro-batches (or rounds of the processes, which then have to answer alike); true discards the
  /// step. May be empty.
  std::function<bool()> should_stop = {};
};

class TrainStep {
 public:
  /// A step that moves `parameters` by `optimizer`, and takes them into the average `ema` unless that is
  /// null. All of them, and what the objective refers to, must outlive the step. Throws ValueError for an
  /// objective without a loss or fewer micro-batches than processes, DeviceError for a graph on the CPU.
  TrainStep(Parameters& parameters, Optimizer& optimizer, Ema* ema, Objective objective,
            TrainStepOptions options = {});

  /// One step, from gradients of zero, as an update leaves them; collective where the parameters are shared. False when
  /// should_stop has ended it before the update: weights and average are as before, the gradients zero, and the batches
  /// lost. A step that cannot be captured (out of memory, an op that needs the host) is not an error: this one and all
  /// later ones are computed op by op.
  bool run(double learning_rate);
  /// f32, a scalar: the loss of the last step, the mean over its micro-batches. Always the same tensor.
  const Tensor& loss() const { return loss_; }
  /// Whether steps are replayed from now on.
  bool captured() const { return micro_batch_graph_ && (update_graph_ || slices_.shared()); }

  /// The part of a step before the update, op by op: leaves the gradient of this process's next micro-batches in the
  /// parameters. Within a FindNonFinite this shows where a value that is not finite comes from.
  void compute_gradients();

 private:
  Var scaled_loss();
  void micro_batch();
  void add_round(int senders);
  void discard();
  void run_or_replay(std::unique_ptr<cuda::Graph>& graph, FunctionRef<void()> work);
  void go_on_without(const Error& error);
  void say(const std::string& message) const;

  Context& ctx_;
  Parameters& parameters_;
  Optimizer& optimizer_;
  Ema* ema_;
  Objective objective_;
  TrainStepOptions options_;
  const Slices& slices_;
  Tensor loss_;
  Tensor round_losses_;            // f32 [W], where there are several processes
  Communicator::Begins one_each_;  // of whose elements each process owns one
  Tensor gradient_;  // the sum over the micro-batches, this process's slice; undefined with one micro-batch
  std::int64_t steps_ = 0;
  std::unique_ptr<cuda::Graph> micro_batch_graph_, update_graph_;
};

}  // namespace llsa::nn

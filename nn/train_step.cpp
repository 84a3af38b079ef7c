#include "nn/train_step.h"

#include <algorithm>
#include <utility>

#include "autograd/elementwise.h"
#include "core/profiler.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"

namespace llsa::nn {
namespace {

// Steps before the capture. The first makes what is made once: position tables, plans of matrix products,
// loaded modules. It also leaves the memory of a step in the cache, from where the capture takes it.
constexpr std::int64_t kStepsBeforeCapture = 1;

}  // namespace

void require_graphs(const Context& ctx) {
  if (!ctx.device().is_cuda())
    throw DeviceError(
        cat("a step can be replayed from graphs on a CUDA device only, and this is ", ctx.device().str()),
        "leave graphs off (--graph false), or choose another device (--device)");
}

TrainStep::TrainStep(Parameters& parameters, Optimizer& optimizer, Ema* ema, Objective objective,
                     TrainStepOptions options)
    : ctx_(parameters.context()),
      parameters_(parameters),
      optimizer_(optimizer),
      ema_(ema),
      objective_(std::move(objective)),
      options_(std::move(options)),
      slices_(parameters.slices()),
      loss_(ctx_.zeros(Shape{}, DType::f32)) {
  const int ranks = slices_.ranks().size();
  if (!objective_.loss) throw ValueError("[train_step] the objective has no loss");
  if (options_.accumulate < ranks)
    throw ValueError(cat("[train_step] expected at least ", ranks,
                         ranks == 1 ? " micro-batch" : " micro-batches",
                         " per step, one for each process, got ", options_.accumulate));
  if (options_.graph) require_graphs(ctx_);
  if (slices_.shared()) round_losses_ = ctx_.zeros(Shape{ranks}, DType::f32);
  for (int r = 0; r <= ranks; ++r) one_each_.push_back(r);
  if (options_.accumulate > 1)
    gradient_ = ctx_.zeros(Shape{slices_.end() - slices_.begin()}, parameters.flat().dtype());
}

bool TrainStep::run(double learning_rate) {
  const int ranks = slices_.ranks().size();
  const bool replayed = captured();
  kernels::fill(ctx_, loss_, 0.0);
  for (std::int64_t first = 0; first < options_.accumulate; first += ranks) {
    if (first > 0 && options_.should_stop && options_.should_stop()) {
      discard();
      return false;
    }
    if (first + slices_.ranks().rank() < options_.accumulate) {
      if (objective_.next) objective_.next();
      run_or_replay(micro_batch_graph_, [this] { micro_batch(); });
    }
    if (slices_.shared())
      add_round(static_cast<int>(std::min<std::int64_t>(ranks, options_.accumulate - first)));
  }
  optimizer_.prepare(learning_rate);
  if (slices_.shared())
    optimizer_.update(ema_, gradient_);
  else
    run_or_replay(update_graph_, [this] { optimizer_.update(ema_, gradient_); });
  ++steps_;
  if (!replayed && captured())
    say(cat("the training step is replayed from graphs of ", micro_batch_graph_->size(), " and ",
            update_graph_ ? update_graph_->size() : 0, " commands"));
  return true;
}

void TrainStep::compute_gradients() {
  parameters_.zero_grad();
  for (std::int64_t i = slices_.ranks().rank(); i < options_.accumulate; i += slices_.ranks().size()) {
    if (objective_.next) objective_.next();
    backward(scaled_loss());
  }
}

Var TrainStep::scaled_loss() {
  return affine(objective_.loss(), 1.0 / static_cast<double>(options_.accumulate), 0.0);
}

void TrainStep::micro_batch() {
  const Var loss = scaled_loss();
  backward(loss, {}, Graph::free, GradBuffers::zeros);
  const Tensor value = kernels::cast(ctx_, loss.value(), DType::f32);
  if (slices_.shared()) return kernels::copy(ctx_, value, round_losses_.select(0, slices_.ranks().rank()));
  kernels::accumulate(ctx_, value, loss_);
  if (!gradient_.defined()) return;
  slices_.add(ctx_, parameters_.flat_grad(), 1, gradient_);
  parameters_.zero_grad();
}

/// Adds up what the ranks 0 .. senders - 1 have computed.
void TrainStep::add_round(int senders) {
  slices_.add(ctx_, parameters_.flat_grad(), senders, gradient_);
  parameters_.zero_grad();
  slices_.ranks().collect(ctx_, round_losses_, one_each_);
  for (int r = 0; r < senders; ++r) kernels::accumulate(ctx_, round_losses_.select(0, r), loss_);
}

void TrainStep::discard() {
  parameters_.zero_grad();
  if (gradient_.defined()) kernels::fill(ctx_, gradient_, 0.0);
}

void TrainStep::run_or_replay(std::unique_ptr<cuda::Graph>& graph, FunctionRef<void()> work) {
  const bool profiled = Profiler::active() != nullptr;  // which sees nothing within a replay
  if (options_.graph && !graph && steps_ >= kStepsBeforeCapture && !profiled) {
    try {
      graph = std::make_unique<cuda::Graph>(ctx_, work);
    } catch (const CudaError& error) {
      go_on_without(error);
    } catch (const OutOfMemoryError& error) {
      go_on_without(error);
    }
  }
  if (graph && !profiled)
    graph->launch();
  else
    work();
}

// Nothing of what was being captured has run, so nothing is lost.
void TrainStep::go_on_without(const Error& error) {
  options_.graph = false;
  micro_batch_graph_.reset();
  update_graph_.reset();
  say(cat("the training step could not be captured, going on without graphs: ", error.what()));
}

void TrainStep::say(const std::string& message) const {
  if (options_.on_message) options_.on_message(message);
}

}  // namespace llsa::nn

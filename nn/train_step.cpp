#include "nn/train_step.h"

#include <utility>

#include "autograd/elementwise.h"
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
    throw DeviceError(cat("--graph needs a CUDA device, this run computes on ", ctx.device().str()),
                      "give --graph false, or another --device");
}

TrainStep::TrainStep(Dit& model, AdamW& optimizer, Ema& ema, Batch batch, NextBatch next,
                     const TrainStepOptions& options, Say say)
    : ctx_(model.context()),
      model_(model),
      optimizer_(optimizer),
      ema_(ema),
      batch_(std::move(batch)),
      next_(std::move(next)),
      options_(options),
      say_(std::move(say)),
      loss_(ctx_.zeros(Shape{}, DType::f32)) {
  if (options.graph) require_graphs(ctx_);
}

TrainStep::TrainStep(Dit& model, AdamW& optimizer, Ema& ema, Loader& loader, const TrainStepOptions& options,
                     Say say)
    : TrainStep(
          model, optimizer, ema, loader.make_batch(), [&loader](const Batch& into) { loader.next(into); },
          options, std::move(say)) {}

void TrainStep::run(double learning_rate) {
  kernels::fill(ctx_, loss_, 0.0);
  for (std::int64_t i = 0; i < options_.accumulate; ++i) {
    next_(batch_);
    run_or_replay(micro_batch_graph_, [this] { micro_batch(); });
  }
  optimizer_.prepare(learning_rate);
  run_or_replay(update_graph_, [this] { update(); });
  if (steps_++ == kStepsBeforeCapture && options_.graph)
    say_(cat("the training step is replayed from graphs of ", micro_batch_graph_->size(), " and ",
             update_graph_->size(), " commands"));
}

Var TrainStep::next_loss() {
  next_(batch_);
  return batch_loss();
}

Var TrainStep::batch_loss() {
  return flow_loss(model_, make_flow_batch(ctx_, batch_.x, batch_.y, batch_.sample_ids, options_.flow));
}

void TrainStep::micro_batch() {
  const Var loss = affine(batch_loss(), 1.0 / static_cast<double>(options_.accumulate), 0.0);
  backward(loss);
  kernels::accumulate(ctx_, kernels::cast(ctx_, loss.value(), DType::f32), loss_);
}

void TrainStep::update() {
  optimizer_.update(&ema_);
  model_.parameters().zero_grad();
}

void TrainStep::run_or_replay(std::unique_ptr<cuda::Graph>& graph, FunctionRef<void()> work) {
  if (options_.graph && !graph && steps_ >= kStepsBeforeCapture) {
    try {
      graph = std::make_unique<cuda::Graph>(ctx_, work);
    } catch (const CudaError& error) {
      go_on_without(error);
    } catch (const OutOfMemoryError& error) {
      go_on_without(error);
    }
  }
  if (graph)
    graph->launch();
  else
    work();
}

// Nothing of what was being captured has run, so nothing is lost.
void TrainStep::go_on_without(const Error& error) {
  options_.graph = false;
  micro_batch_graph_.reset();
  update_graph_.reset();
  say_(cat("the training step could not be captured, going on without --graph: ", error.what()));
}

}  // namespace llsa::nn

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
      loss_(ctx_.zeros(Shape{}, DType::f32)) {
  if (!objective_.loss) throw ValueError("[train_step] the objective has no loss");
  if (options_.accumulate < 1)
    throw ValueError(cat("[train_step] expected at least 1 micro-batch per step, got ", options_.accumulate));
  if (options_.graph) require_graphs(ctx_);
}

bool TrainStep::run(double learning_rate) {
  kernels::fill(ctx_, loss_, 0.0);
  for (std::int64_t i = 0; i < options_.accumulate; ++i) {
    if (i > 0 && options_.should_stop && options_.should_stop()) {
      parameters_.zero_grad();
      return false;
    }
    if (objective_.next) objective_.next();
    run_or_replay(micro_batch_graph_, [this] { micro_batch(); });
  }
  optimizer_.prepare(learning_rate);
  run_or_replay(update_graph_, [this] { optimizer_.update(ema_); });
  if (steps_++ == kStepsBeforeCapture && options_.graph)
    say(cat("the training step is replayed from graphs of ", micro_batch_graph_->size(), " and ",
            update_graph_->size(), " commands"));
  return true;
}

void TrainStep::compute_gradients() {
  parameters_.zero_grad();
  kernels::fill(ctx_, loss_, 0.0);
  for (std::int64_t i = 0; i < options_.accumulate; ++i) {
    if (objective_.next) objective_.next();
    micro_batch();
  }
}

void TrainStep::micro_batch() {
  const Var loss = affine(objective_.loss(), 1.0 / static_cast<double>(options_.accumulate), 0.0);
  backward(loss);
  kernels::accumulate(ctx_, kernels::cast(ctx_, loss.value(), DType::f32), loss_);
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
  say(cat("the training step could not be captured, going on without graphs: ", error.what()));
}

void TrainStep::say(const std::string& message) const {
  if (options_.on_message) options_.on_message(message);
}

}  // namespace llsa::nn

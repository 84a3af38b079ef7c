// Activation checkpointing.
//
// The second computation gets its inputs as they were, edges included, so its nodes stand where the first
// computation's would have stood: they are the youngest of the walk, hence visited next, and hand their
// gradients to the same places in the same order. This is why no bit changes.

#include "autograd/recompute.h"

#include "autograd/node.h"

namespace llsa {
namespace {

using Function = std::function<Var(const std::vector<Var>&)>;

struct CheckpointAttributes {
  Function function;
  std::vector<Var> inputs;
};

void recompute_backward(BackwardStep& step) {
  const auto& a = step.attributes<CheckpointAttributes>();
  const EnableGrad recording;
  const Var y = a.function(a.inputs);
  step.continue_with(y, step.take_dy());
}

}  // namespace

Var recompute(const Function& function, const std::vector<Var>& inputs) {
  if (!grad_enabled()) return function(inputs);
  if (inputs.empty()) throw ValueError("[recompute] expected at least one input, got none");
  Tensor y;
  {
    const NoGrad no_grad;
    y = function(inputs).value();
  }
  std::vector<const Var*> list;
  std::vector<Tensor> saved;
  for (const Var& input : inputs) {
    list.push_back(&input);
    saved.push_back(input.defined() ? input.value() : Tensor());
  }
  Context& context = inputs[0].context();
  auto node = make_node("recompute", list, 1, recompute_backward, std::move(saved),
                        CheckpointAttributes{function, inputs});
  node->context = &context;
  return Var::made_by(context, std::move(y), std::move(node), 0);
}

}  // namespace llsa

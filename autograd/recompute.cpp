// Activation checkpointing.
//
// The second computation gets its inputs as they were, edges included, so its nodes stand where the first
// computation's would have stood: they are the youngest of the walk, hence visited next, and hand their
// gradients to the same places in the same order. This is why no bit changes.

#include "autograd/recompute.h"

#include "autograd/node.h"

namespace llsa {
namespace {

using Function = std::function<std::vector<Var>(const std::vector<Var>&)>;

struct CheckpointAttributes {
  Function function;
  std::vector<Var> inputs;
};

void recompute_backward(BackwardStep& step) {
  const auto& a = step.attributes<CheckpointAttributes>();
  const EnableGrad recording;
  const std::vector<Var> outputs = a.function(a.inputs);
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const int slot = static_cast<int>(i);
    if (step.dy(slot).defined()) step.continue_with(outputs[i], step.take_dy(slot));
  }
}

}  // namespace

std::vector<Var> recompute(const Function& function, const std::vector<Var>& inputs) {
  if (!grad_enabled()) return function(inputs);
  if (inputs.empty()) throw ValueError("[recompute] expected at least one input, got none");
  std::vector<Tensor> values;
  {
    const NoGrad no_grad;
    for (const Var& output : function(inputs)) values.push_back(output.value());
  }
  std::vector<const Var*> list;
  std::vector<Tensor> saved;
  for (const Var& input : inputs) {
    list.push_back(&input);
    saved.push_back(input.defined() ? input.value() : Tensor());
  }
  Context& context = inputs[0].context();
  const auto node = make_node("recompute", list, values.size(), recompute_backward, std::move(saved),
                              CheckpointAttributes{function, inputs});
  node->context = &context;
  std::vector<Var> outputs;
  for (Tensor& value : values)
    outputs.push_back(Var::made_by(context, std::move(value), node, static_cast<int>(outputs.size())));
  return outputs;
}

Var recompute(const std::function<Var(const std::vector<Var>&)>& function, const std::vector<Var>& inputs) {
  return recompute([function](const std::vector<Var>& in) { return std::vector<Var>{function(in)}; },
                   inputs)[0];
}

}  // namespace llsa

// Softmax and log-sum-exp.

#include "autograd/softmax.h"

#include "autograd/node.h"
#include "kernels/softmax.h"

namespace llsa {
namespace {

void softmax_backward(BackwardStep& step) {
  step.add(0, kernels::softmax_backward(step.context(), step.dy(), step.saved(0)));
}

void log_sum_exp_backward(BackwardStep& step) {
  step.add(0, kernels::log_sum_exp_backward(step.context(), step.dy(), step.saved(0), step.saved(1)));
}

}  // namespace

Var softmax(const Var& x) {
  const Tensor y = kernels::softmax(x.context(), x.value());
  return record("softmax", {&x}, y, softmax_backward, saving(y));
}

Var log_sum_exp(const Var& x) {
  const Tensor l = kernels::log_sum_exp(x.context(), x.value());
  return record("log_sum_exp", {&x}, l, log_sum_exp_backward, saving(x.value(), l));
}

}  // namespace llsa

// Losses.

#include "autograd/loss.h"

#include "autograd/node.h"
#include "kernels/elementwise.h"
#include "kernels/loss.h"

namespace llsa {
namespace {

void mse_backward(BackwardStep& step) {
  Tensor da = kernels::mse_backward(step.context(), step.dy(), step.saved(0), step.saved(1));
  if (step.needs(1)) step.add(1, kernels::neg(step.context(), da));
  step.add(0, std::move(da));
}

void cross_entropy_backward(BackwardStep& step) {
  step.add(0, kernels::cross_entropy_backward(step.context(), step.dy(), step.saved(0), step.saved(1)));
}

}  // namespace

Var mse(const Var& a, const Var& b) {
  return record("mse", {&a, &b}, kernels::mse(a.context(), a.value(), b.value()), mse_backward,
                saving(a.value(), b.value()));
}

Var cross_entropy(const Var& logits, const Tensor& labels) {
  return record("cross_entropy", {&logits}, kernels::cross_entropy(logits.context(), logits.value(), labels),
                cross_entropy_backward, saving(logits.value(), labels));
}

}  // namespace llsa

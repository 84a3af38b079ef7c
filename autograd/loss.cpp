// Losses.

#include "autograd/loss.h"

#include <vector>

#include "autograd/node.h"
#include "autograd/view.h"
#include "kernels/copy.h"
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
  if (logits.shape().rank() > 2) {  // the tokens of a sequence, or the like, become rows
    const Shape rows(std::vector<std::int64_t>(logits.shape().begin(), logits.shape().end() - 1));
    if (!(labels.shape() == rows))
      throw ShapeError(cat("[cross_entropy] expected labels of shape ", rows, " for logits of shape ",
                           logits.shape(), ", got ", labels.shape()));
    return cross_entropy(reshape(logits, {rows.numel(), logits.shape()[-1]}),
                         kernels::contiguous(logits.context(), labels).reshape({rows.numel()}));
  }
  return record("cross_entropy", {&logits}, kernels::cross_entropy(logits.context(), logits.value(), labels),
                cross_entropy_backward, saving(logits.value(), labels));
}

}  // namespace llsa

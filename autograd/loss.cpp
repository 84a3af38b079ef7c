// Losses.

#include "autograd/loss.h"

#include <algorithm>
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
  const std::vector<std::int64_t>& extents = logits.shape().extents();
  const std::vector<std::int64_t>& rows = labels.shape().extents();
  if (rows.size() > 1 && std::equal(rows.begin(), rows.end(), extents.begin(), extents.end() - 1))
    return cross_entropy(reshape(logits, {labels.numel(), extents.back()}),
                         kernels::contiguous(logits.context(), labels).reshape({labels.numel()}));
  return record("cross_entropy", {&logits}, kernels::cross_entropy(logits.context(), logits.value(), labels),
                cross_entropy_backward, saving(logits.value(), labels));
}

}  // namespace llsa

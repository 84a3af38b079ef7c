// Embedding and token orders.

#include "autograd/index.h"

#include "autograd/node.h"
#include "kernels/index.h"

namespace llsa {
namespace {

void embedding_backward(BackwardStep& step) {
  step.add(0, kernels::embedding_backward(step.context(), step.dy(), step.saved(0), step.input_shape(0)[0]));
}

void gather_tokens_backward(BackwardStep& step) {
  step.add(0, kernels::gather_tokens(step.context(), step.dy(), step.saved(0)));
}

}  // namespace

Var embedding(const Var& table, const Tensor& ids) {
  return record("embedding", {&table}, kernels::embedding(table.context(), table.value(), ids),
                embedding_backward, saving(ids));
}

Var gather_tokens(const Var& x, const Tensor& order, const Tensor& inverse) {
  if (inverse.shape() != order.shape() || order.numel() != x.size(1))
    throw ShapeError(cat("[gather_tokens] expected order and inverse of ", x.size(1), " elements, got ",
                         order.shape(), " and ", inverse.shape()));
  return record("gather_tokens", {&x}, kernels::gather_tokens(x.context(), x.value(), order),
                gather_tokens_backward, saving(inverse));
}

}  // namespace llsa

// Mean pooling of tokens.

#include "autograd/pool.h"

#include "autograd/node.h"
#include "kernels/pool.h"

namespace llsa {
namespace {

void mean_pool_backward(BackwardStep& step) {
  step.add(0, kernels::mean_pool_backward(step.context(), step.dy(), step.input_shape(0)[-2],
                                          step.attributes<std::int64_t>()));
}

}  // namespace

Var mean_pool(const Var& x, std::int64_t block) {
  return record("mean_pool", {&x}, kernels::mean_pool(x.context(), x.value(), block), mean_pool_backward, {},
                block);
}

}  // namespace llsa

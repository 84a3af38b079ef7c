// Convolution.

#include "autograd/conv.h"

#include "autograd/node.h"
#include "kernels/conv.h"

namespace llsa {
namespace {

struct ConvAttributes {
  std::array<std::int64_t, 2> stride, padding;
};

void conv2d_backward(BackwardStep& step) {
  const auto& a = step.attributes<ConvAttributes>();
  auto grads = kernels::conv2d_backward(step.context(), step.dy(), step.saved(0), step.saved(1), a.stride,
                                        a.padding, step.needs(0), step.needs(1), step.needs(2));
  if (step.needs(0)) step.add(0, std::move(grads.dx));
  if (step.needs(1)) step.add(1, std::move(grads.dw));
  if (step.needs(2)) step.add(2, std::move(grads.db));
}

}  // namespace

Var conv2d(const Var& x, const Var& w, const Var& bias, std::array<std::int64_t, 2> stride,
           std::array<std::int64_t, 2> padding) {
  const Tensor b = bias.defined() ? bias.value() : Tensor();
  return record("conv2d", {&x, &w, &bias},
                kernels::conv2d(x.context(), x.value(), w.value(), b, stride, padding), conv2d_backward,
                saving(x.value(), w.value()), ConvAttributes{stride, padding});
}

}  // namespace llsa

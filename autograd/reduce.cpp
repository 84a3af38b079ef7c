// Reductions.

#include "autograd/reduce.h"

#include "autograd/node.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/reduce.h"

namespace llsa {
namespace {

struct ReduceAttributes {
  Shape kept;    ///< the output's shape with the reduced axes as 1
  double scale;  ///< of dy
};

ReduceAttributes attributes_of(const Shape& shape, const std::vector<int>& axes) {
  std::vector<std::int64_t> kept = shape.extents();
  if (axes.empty()) kept.assign(kept.size(), 1);
  for (const int axis : axes) kept[static_cast<std::size_t>(shape.normalize_axis(axis))] = 1;
  return {Shape(kept), 1.0};
}

void reduce_backward(BackwardStep& step) {
  const auto& a = step.attributes<ReduceAttributes>();
  Tensor dy = kernels::contiguous(step.context(), step.take_dy());
  if (a.scale != 1.0) dy = kernels::affine(step.context(), dy, a.scale, 0.0);
  step.add(0, dy.reshape(a.kept).expand(step.input_shape(0)));
}

}  // namespace

Var sum(const Var& x, const std::vector<int>& axes, bool keepdim) {
  Tensor y = kernels::sum(x.context(), x.value(), axes, keepdim);
  return record("sum", {&x}, std::move(y), reduce_backward, {}, attributes_of(x.shape(), axes));
}

Var mean(const Var& x, const std::vector<int>& axes, bool keepdim) {
  Tensor y = kernels::mean(x.context(), x.value(), axes, keepdim);
  ReduceAttributes attributes = attributes_of(x.shape(), axes);
  if (x.shape().numel() > 0)
    attributes.scale = static_cast<double>(attributes.kept.numel()) / static_cast<double>(x.shape().numel());
  return record("mean", {&x}, std::move(y), reduce_backward, {}, std::move(attributes));
}

Tensor argmax(const Var& x, int axis, bool keepdim) {
  return kernels::argmax(x.context(), x.value(), axis, keepdim);
}

}  // namespace llsa

// Copies and their adjoints.

#include "autograd/copy.h"

#include "autograd/node.h"
#include "kernels/copy.h"

namespace llsa {
namespace {

void contiguous_backward(BackwardStep& step) { step.add(0, step.take_dy()); }

void cast_backward(BackwardStep& step) {
  step.add(0, kernels::cast(step.context(), step.dy(), step.attributes<DType>()));
}

void concat_backward(BackwardStep& step) {
  const int axis = step.attributes<int>();
  std::int64_t begin = 0;
  for (int i = 0; i < step.inputs(); ++i) {
    const std::int64_t end = begin + step.input_shape(i)[axis];
    if (step.needs(i)) step.add(i, step.dy().slice(axis, begin, end));
    begin = end;
  }
}

}  // namespace

Var contiguous(const Var& x) {
  if (x.value().is_contiguous()) return x;
  return record("contiguous", {&x}, kernels::contiguous(x.context(), x.value()), contiguous_backward);
}

Var cast(const Var& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  if (x.requires_grad() && !is_floating(dtype))
    throw DTypeError(
        cat("[cast] a variable with a gradient can become f32, bf16 or f64, got ", name_of(dtype)),
        "detach() it first");
  return record("cast", {&x}, kernels::cast(x.context(), x.value(), dtype), cast_backward, {}, x.dtype());
}

Var concat(const std::vector<Var>& parts, int axis) {
  if (parts.empty()) throw ValueError("[concat] expected at least one part, got none");
  std::vector<const Var*> inputs;
  std::vector<Tensor> values;
  for (const Var& part : parts) {
    inputs.push_back(&part);
    values.push_back(part.value());
  }
  return record_all("concat", inputs, {kernels::concat(parts[0].context(), values, axis)}, concat_backward,
                    {}, axis)[0];
}

}  // namespace llsa

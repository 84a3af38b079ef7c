// Rotary embedding and the head split.

#include "autograd/rope.h"

#include <array>

#include "autograd/node.h"
#include "kernels/copy.h"

namespace llsa {
namespace {

void rope_backward(BackwardStep& step) {
  step.add(0, kernels::rope_backward(step.context(), step.dy(), {step.saved(0), step.saved(1)}));
}

/// Gradient of q, k or v with unit stride in D; zeros when nothing was computed from it.
Tensor head_gradient(BackwardStep& step, int slot, const Shape& shape, DType dtype) {
  const Tensor dy = step.take_dy(slot);
  if (!dy.defined()) return step.context().zeros(shape, dtype);
  return dy.stride(-1) == 1 ? dy : kernels::contiguous(step.context(), dy);
}

void qkv_split_backward(BackwardStep& step) {
  const int heads = step.attributes<int>();
  const Tensor& qkv = step.saved(0);
  const std::int64_t d = qkv.size(2) / 3 / heads;
  const Shape shape({qkv.size(0), heads, qkv.size(1), d});
  const Tensor dq = head_gradient(step, 0, shape, qkv.dtype());
  const Tensor dk = head_gradient(step, 1, shape, qkv.dtype());
  const Tensor dv = head_gradient(step, 2, shape, qkv.dtype());
  Tensor dq_weight = step.room(1), dk_weight = step.room(2);
  step.add(0, kernels::qkv_split_backward(step.context(), dq, dk, dv, qkv, step.saved(1), step.saved(2),
                                          step.saved(3), step.saved(4), {step.saved(5), step.saved(6)},
                                          dq_weight, dk_weight));
  if (dq_weight.defined()) step.add(1, std::move(dq_weight));
  if (dk_weight.defined()) step.add(2, std::move(dk_weight));
}

}  // namespace

Var rope(const Var& x, const kernels::RopeTable& table) {
  return record("rope", {&x}, kernels::rope(x.context(), x.value(), table), rope_backward,
                saving(table.cos, table.sin));
}

QkvVars qkv_split(const Var& qkv, int heads, const Var& q_weight, const Var& k_weight, double eps,
                  const kernels::RopeTable& table) {
  const Tensor qw = q_weight.defined() ? q_weight.value() : Tensor();
  const Tensor kw = k_weight.defined() ? k_weight.value() : Tensor();
  auto heads_of = kernels::qkv_split(qkv.context(), qkv.value(), heads, qw, kw, eps, table);
  const std::array<const Var*, 3> inputs = {&qkv, &q_weight, &k_weight};
  std::vector<Tensor> outputs = saving(std::move(heads_of.q), std::move(heads_of.k), std::move(heads_of.v));
  auto vars =
      record_all("qkv_split", inputs, std::move(outputs), qkv_split_backward,
                 saving(qkv.value(), qw, kw, heads_of.q_rstd, heads_of.k_rstd, table.cos, table.sin), heads);
  return {vars[0], vars[1], vars[2]};
}

}  // namespace llsa

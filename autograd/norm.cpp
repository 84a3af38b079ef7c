// Norms and their fusions.

#include "autograd/norm.h"

#include "autograd/node.h"
#include "kernels/norm.h"

namespace llsa {
namespace {

const Tensor& value_or_none(const Var& x) {
  static const Tensor none;
  return x.defined() ? x.value() : none;
}

void layer_norm_backward(BackwardStep& step) {
  auto grads = kernels::layer_norm_backward(step.context(), step.dy(), step.saved(0), step.saved(1),
                                            step.saved(2), step.saved(3), step.needs(2));
  step.add(0, std::move(grads.dx));
  if (step.needs(1)) step.add(1, std::move(grads.dw));
  if (step.needs(2)) step.add(2, std::move(grads.db));
}

void rms_norm_backward(BackwardStep& step) {
  auto grads =
      kernels::rms_norm_backward(step.context(), step.dy(), step.saved(0), step.saved(1), step.saved(2));
  step.add(0, std::move(grads.dx));
  if (step.needs(1)) step.add(1, std::move(grads.dw));
}

void layer_norm_modulate_backward(BackwardStep& step) {
  auto grads = kernels::layer_norm_modulate_backward(step.context(), step.dy(), step.saved(0), step.saved(1),
                                                     step.saved(2), step.saved(3));
  step.add(0, std::move(grads.dx));
  step.add(1, std::move(grads.dshift));
  step.add(2, std::move(grads.dscale));
}

void gate_residual_backward(BackwardStep& step) {
  if (step.needs(1) || step.needs(2)) {
    auto grads = kernels::gate_residual_backward(step.context(), step.dy(), step.saved(0), step.saved(1));
    step.add(1, std::move(grads.dy));
    step.add(2, std::move(grads.dgate));
  }
  step.add(0, step.take_dy());
}

void gate_norm_modulate_backward(BackwardStep& step) {
  const Tensor& r = step.saved(0);
  const Tensor dh = step.dy(1).defined() ? step.dy(1) : step.context().zeros(r.shape(), r.dtype());
  auto grads = kernels::gate_norm_modulate_backward(step.context(), step.dy(0), dh, r, step.saved(1),
                                                    step.saved(2), step.saved(3), step.saved(4));
  step.add(0, std::move(grads.dx));
  step.add(1, std::move(grads.dy));
  step.add(2, std::move(grads.dfactors));
}

}  // namespace

Var layer_norm(const Var& x, const Var& weight, const Var& bias, double eps) {
  auto result = kernels::layer_norm(x.context(), x.value(), value_or_none(weight), value_or_none(bias), eps);
  return record("layer_norm", {&x, &weight, &bias}, std::move(result.y), layer_norm_backward,
                saving(x.value(), value_or_none(weight), std::move(result.mean), std::move(result.rstd)));
}

Var rms_norm(const Var& x, const Var& weight, double eps) {
  auto result = kernels::rms_norm(x.context(), x.value(), value_or_none(weight), eps);
  return record("rms_norm", {&x, &weight}, std::move(result.y), rms_norm_backward,
                saving(x.value(), value_or_none(weight), std::move(result.rstd)));
}

Var layer_norm_modulate(const Var& x, const Var& shift, const Var& scale, double eps) {
  auto result = kernels::layer_norm_modulate(x.context(), x.value(), shift.value(), scale.value(), eps);
  return record("layer_norm_modulate", {&x, &shift, &scale}, std::move(result.y),
                layer_norm_modulate_backward,
                saving(x.value(), scale.value(), std::move(result.mean), std::move(result.rstd)));
}

Var gate_residual(const Var& x, const Var& y, const Var& gate) {
  return record("gate_residual", {&x, &y, &gate},
                kernels::gate_residual(x.context(), x.value(), y.value(), gate.value()),
                gate_residual_backward, saving(y.value(), gate.value()));
}

GateNormVars gate_norm_modulate(const Var& x, const Var& y, const Var& factors, double eps) {
  auto result = kernels::gate_norm_modulate(x.context(), x.value(), y.value(), factors.value(), eps);
  const Var* const inputs[] = {&x, &y, &factors};
  const auto outputs =
      record_all("gate_norm_modulate", inputs, {result.r, result.h}, gate_norm_modulate_backward,
                 saving(result.r, y.value(), factors.value(), result.mean, result.rstd));
  return {outputs[0], outputs[1]};
}

}  // namespace llsa

// Elementwise ops and their derivatives; the formulas are in the header.

#include "autograd/elementwise.h"

#include "autograd/node.h"
#include "kernels/elementwise.h"
#include "kernels/reduce.h"

namespace llsa {
namespace {

/// The adjoint of broadcasting an input of this shape; gives the tensor on when there is nothing to sum.
Tensor summed(Context& context, Tensor dy, const Shape& shape) {
  if (dy.shape() == shape) return dy;
  return kernels::sum_to(context, dy, shape);
}

void add_backward(BackwardStep& step) {
  if (step.needs(0)) step.add(0, summed(step.context(), step.dy(), step.input_shape(0)));
  if (step.needs(1)) step.add(1, summed(step.context(), step.take_dy(), step.input_shape(1)));
}

void sub_backward(BackwardStep& step) {
  Context& context = step.context();
  if (step.needs(1)) step.add(1, kernels::neg(context, summed(context, step.dy(), step.input_shape(1))));
  if (step.needs(0)) step.add(0, summed(context, step.take_dy(), step.input_shape(0)));
}

void mul_backward(BackwardStep& step) {
  Context& context = step.context();
  if (step.needs(0))
    step.add(0, summed(context, kernels::mul(context, step.dy(), step.saved(1)), step.input_shape(0)));
  if (step.needs(1))
    step.add(1, summed(context, kernels::mul(context, step.dy(), step.saved(0)), step.input_shape(1)));
}

void div_backward(BackwardStep& step) {
  Context& context = step.context();
  const Tensor scaled = kernels::div(context, step.dy(), step.saved(0));  // dy / b
  if (step.needs(0)) step.add(0, summed(context, scaled, step.input_shape(0)));
  if (step.needs(1)) {
    const Tensor db =
        kernels::sum_to(context, kernels::mul(context, scaled, step.saved(1)), step.input_shape(1));
    step.add(1, kernels::neg(context, db));
  }
}

void affine_backward(BackwardStep& step) {
  step.add(0, kernels::affine(step.context(), step.dy(), step.attributes<double>(), 0.0));
}

void exp_backward(BackwardStep& step) { step.add(0, kernels::mul(step.context(), step.dy(), step.saved(0))); }

void log_backward(BackwardStep& step) { step.add(0, kernels::div(step.context(), step.dy(), step.saved(0))); }

void sqrt_backward(BackwardStep& step) {
  const Tensor half = kernels::affine(step.context(), step.dy(), 0.5, 0.0);
  step.add(0, kernels::div(step.context(), half, step.saved(0)));
}

void neg_backward(BackwardStep& step) { step.add(0, kernels::neg(step.context(), step.dy())); }

void square_backward(BackwardStep& step) {
  const Tensor twice = kernels::affine(step.context(), step.dy(), 2.0, 0.0);
  step.add(0, kernels::mul(step.context(), twice, step.saved(0)));
}

/// dx = f(dy, saved), one fused kernel each.
template <Tensor (*f)(Context&, const Tensor&, const Tensor&)>
void fused_backward(BackwardStep& step) {
  step.add(0, f(step.context(), step.dy(), step.saved(0)));
}

}  // namespace

Var add(const Var& a, const Var& b) {
  return record("add", {&a, &b}, kernels::add(a.context(), a.value(), b.value()), add_backward);
}

Var sub(const Var& a, const Var& b) {
  return record("sub", {&a, &b}, kernels::sub(a.context(), a.value(), b.value()), sub_backward);
}

Var mul(const Var& a, const Var& b) {
  return record("mul", {&a, &b}, kernels::mul(a.context(), a.value(), b.value()), mul_backward,
                saving(b.requires_grad() ? a.value() : Tensor(), a.requires_grad() ? b.value() : Tensor()));
}

Var div(const Var& a, const Var& b) {
  Tensor y = kernels::div(a.context(), a.value(), b.value());
  auto saved = saving(b.value(), b.requires_grad() ? y : Tensor());
  return record("div", {&a, &b}, std::move(y), div_backward, std::move(saved));
}

Var affine(const Var& x, double scale, double shift) {
  return record("affine", {&x}, kernels::affine(x.context(), x.value(), scale, shift), affine_backward, {},
                scale);
}

Var exp(const Var& x) {
  const Tensor y = kernels::exp(x.context(), x.value());
  return record("exp", {&x}, y, exp_backward, saving(y));
}

Var log(const Var& x) {
  return record("log", {&x}, kernels::log(x.context(), x.value()), log_backward, saving(x.value()));
}

Var sqrt(const Var& x) {
  const Tensor y = kernels::sqrt(x.context(), x.value());
  return record("sqrt", {&x}, y, sqrt_backward, saving(y));
}

Var neg(const Var& x) { return record("neg", {&x}, kernels::neg(x.context(), x.value()), neg_backward); }

Var square(const Var& x) {
  return record("square", {&x}, kernels::square(x.context(), x.value()), square_backward, saving(x.value()));
}

Var tanh(const Var& x) {
  const Tensor y = kernels::tanh(x.context(), x.value());
  return record("tanh", {&x}, y, fused_backward<kernels::tanh_backward>, saving(y));
}

Var sigmoid(const Var& x) {
  const Tensor y = kernels::sigmoid(x.context(), x.value());
  return record("sigmoid", {&x}, y, fused_backward<kernels::sigmoid_backward>, saving(y));
}

Var relu(const Var& x) {
  return record("relu", {&x}, kernels::relu(x.context(), x.value()), fused_backward<kernels::relu_backward>,
                saving(x.value()));
}

Var silu(const Var& x) {
  return record("silu", {&x}, kernels::silu(x.context(), x.value()), fused_backward<kernels::silu_backward>,
                saving(x.value()));
}

Var gelu_tanh(const Var& x) {
  return record("gelu_tanh", {&x}, kernels::gelu_tanh(x.context(), x.value()),
                fused_backward<kernels::gelu_tanh_backward>, saving(x.value()));
}

Var gelu_erf(const Var& x) {
  return record("gelu_erf", {&x}, kernels::gelu_erf(x.context(), x.value()),
                fused_backward<kernels::gelu_erf_backward>, saving(x.value()));
}

}  // namespace llsa

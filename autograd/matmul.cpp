// Matrix products.

#include "autograd/matmul.h"

#include "autograd/node.h"
#include "kernels/matmul.h"
#include "kernels/reduce.h"

namespace llsa {
namespace {

struct MatmulAttributes {
  bool trans_a, trans_b;
};

void matmul_backward(BackwardStep& step) {
  Context& context = step.context();
  const auto [trans_a, trans_b] = step.attributes<MatmulAttributes>();
  if (step.needs(0)) {
    const Tensor& b = step.saved(1);
    const Tensor da = trans_a ? kernels::matmul(context, b, step.dy(), trans_b, true)
                              : kernels::matmul(context, step.dy(), b, false, !trans_b);
    step.add(0, kernels::sum_to(context, da, step.input_shape(0)));
  }
  if (step.needs(1)) {
    const Tensor& a = step.saved(0);
    const Tensor db = trans_b ? kernels::matmul(context, step.dy(), a, true, trans_a)
                              : kernels::matmul(context, a, step.dy(), !trans_a, false);
    step.add(1, kernels::sum_to(context, db, step.input_shape(1)));
  }
}

void give(BackwardStep& step, kernels::LinearGrads grads) {
  if (step.needs(0)) step.add(0, std::move(grads.dx));
  if (step.needs(1)) step.add(1, std::move(grads.dw));
  if (step.needs(2)) step.add(2, std::move(grads.db));
}

void linear_backward(BackwardStep& step) {
  give(step, kernels::linear_backward(step.context(), step.dy(), step.saved(0), step.saved(1), step.needs(0),
                                      step.needs(1), step.needs(2)));
}

void linear_gelu_backward(BackwardStep& step) {
  give(step, kernels::linear_gelu_backward(step.context(), step.dy(), step.saved(0), step.saved(1),
                                           step.saved(2), step.needs(0), step.needs(1), step.needs(2)));
}

const Tensor& value_or_none(const Var& x) {
  static const Tensor none;
  return x.defined() ? x.value() : none;
}

}  // namespace

Var matmul(const Var& a, const Var& b, bool trans_a, bool trans_b) {
  return record("matmul", {&a, &b}, kernels::matmul(a.context(), a.value(), b.value(), trans_a, trans_b),
                matmul_backward,
                saving(b.requires_grad() ? a.value() : Tensor(), a.requires_grad() ? b.value() : Tensor()),
                MatmulAttributes{trans_a, trans_b});
}

Var linear(const Var& x, const Var& w, const Var& bias) {
  return record("linear", {&x, &w, &bias},
                kernels::linear(x.context(), x.value(), w.value(), value_or_none(bias)), linear_backward,
                saving(x.value(), w.value()));
}

Var linear_gelu(const Var& x, const Var& w, const Var& bias) {
  auto result = kernels::linear_gelu(x.context(), x.value(), w.value(), value_or_none(bias));
  return record("linear_gelu", {&x, &w, &bias}, std::move(result.y), linear_gelu_backward,
                saving(x.value(), w.value(), std::move(result.pre)));
}

}  // namespace llsa

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

void add_if_wanted(BackwardStep& step, int input, Tensor gradient) {
  if (gradient.defined()) step.add(input, std::move(gradient));
}

void linear_backward(BackwardStep& step) {
  Tensor dw = step.room(1), db = step.room(2);
  Tensor dx = kernels::linear_backward(step.context(), step.dy(), step.saved(0), step.saved(1), {},
                                       step.needs(0), dw, db);
  add_if_wanted(step, 0, std::move(dx));
  add_if_wanted(step, 1, std::move(dw));
  add_if_wanted(step, 2, std::move(db));
}

void mlp_backward(BackwardStep& step) {
  const Tensor &x = step.saved(0), &up = step.saved(1), &down = step.saved(2), &pre = step.saved(3),
               &hidden = step.saved(4);
  const bool through = step.needs(0) || step.needs(1) || step.needs(2);
  Tensor ddown = step.room(3), ddown_bias = step.room(4);
  const Tensor dpre =
      kernels::linear_backward(step.context(), step.dy(), hidden, down, pre, through, ddown, ddown_bias);
  add_if_wanted(step, 3, std::move(ddown));
  add_if_wanted(step, 4, std::move(ddown_bias));
  if (!through) return;
  Tensor dup = step.room(1), dup_bias = step.room(2);
  Tensor dx = kernels::linear_backward(step.context(), dpre, x, up, {}, step.needs(0), dup, dup_bias);
  add_if_wanted(step, 0, std::move(dx));
  add_if_wanted(step, 1, std::move(dup));
  add_if_wanted(step, 2, std::move(dup_bias));
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

Var mlp(const Var& x, const Var& up, const Var& up_bias, const Var& down, const Var& down_bias) {
  Context& context = x.context();
  auto hidden = kernels::linear_gelu(context, x.value(), up.value(), value_or_none(up_bias));
  Tensor y = kernels::linear(context, hidden.y, down.value(), value_or_none(down_bias));
  return record("mlp", {&x, &up, &up_bias, &down, &down_bias}, std::move(y), mlp_backward,
                saving(x.value(), up.value(), down.value(), std::move(hidden.pre), std::move(hidden.y)));
}

}  // namespace llsa

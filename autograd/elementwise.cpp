// Elementwise ops and their derivatives; the formulas are in kernels/elementwise_ops.h.

#include "autograd/elementwise.h"

#include "autograd/node.h"
#include "kernels/elementwise.h"
#include "kernels/make.h"
#include "kernels/reduce.h"

namespace llsa {
namespace {

/// The adjoint of broadcasting an input of this shape; gives the tensor on when there is nothing to sum.
Tensor summed(Context& context, Tensor dy, const Shape& shape) {
  if (dy.shape() == shape) return dy;
  return kernels::sum_to(context, dy, shape);
}

// Of every binary op: what is saved, and the backward function.

std::vector<Tensor> add_saves(const Var&, const Var&, const Tensor&) { return {}; }
void add_backward(BackwardStep& step) {
  if (step.needs(0)) step.add(0, summed(step.context(), step.dy(), step.input_shape(0)));
  if (step.needs(1)) step.add(1, summed(step.context(), step.take_dy(), step.input_shape(1)));
}

std::vector<Tensor> sub_saves(const Var&, const Var&, const Tensor&) { return {}; }
void sub_backward(BackwardStep& step) {
  Context& context = step.context();
  if (step.needs(1)) step.add(1, kernels::neg(context, summed(context, step.dy(), step.input_shape(1))));
  if (step.needs(0)) step.add(0, summed(context, step.take_dy(), step.input_shape(0)));
}

std::vector<Tensor> mul_saves(const Var& a, const Var& b, const Tensor&) {
  return saving(b.requires_grad() ? a.value() : Tensor(), a.requires_grad() ? b.value() : Tensor());
}
void mul_backward(BackwardStep& step) {
  Context& context = step.context();
  if (step.needs(0))
    step.add(0, summed(context, kernels::mul(context, step.dy(), step.saved(1)), step.input_shape(0)));
  if (step.needs(1))
    step.add(1, summed(context, kernels::mul(context, step.dy(), step.saved(0)), step.input_shape(1)));
}

std::vector<Tensor> div_saves(const Var&, const Var& b, const Tensor& y) {
  return saving(b.value(), b.requires_grad() ? y : Tensor());
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

/// Hands dy on to input 0 where the condition is not 0, and to input 1 elsewhere.
void choose_backward(BackwardStep& step, const Tensor& condition) {
  Context& context = step.context();
  const Tensor zero = context.zeros(Shape{}, step.dy().dtype());
  if (step.needs(0))
    step.add(0, summed(context, kernels::where(context, condition, step.dy(), zero), step.input_shape(0)));
  if (step.needs(1))
    step.add(1, summed(context, kernels::where(context, condition, zero, step.dy()), step.input_shape(1)));
}

std::vector<Tensor> maximum_saves(const Var& a, const Var& b, const Tensor&) {
  return saving(a.value(), b.value());
}
void maximum_backward(BackwardStep& step) {
  choose_backward(step, kernels::greater_equal(step.context(), step.saved(0), step.saved(1)));
}

std::vector<Tensor> minimum_saves(const Var& a, const Var& b, const Tensor&) {
  return saving(a.value(), b.value());
}
void minimum_backward(BackwardStep& step) {
  choose_backward(step, kernels::less_equal(step.context(), step.saved(0), step.saved(1)));
}

void where_backward(BackwardStep& step) { choose_backward(step, step.saved(0)); }

struct Limits {
  double low, high;
};
void clamp_backward(BackwardStep& step) {
  const auto [low, high] = step.attributes<Limits>();
  step.add(0, kernels::clamp_backward(step.context(), step.dy(), step.saved(0), low, high));
}

/// A number that takes part in an op of x.
Var constant(const Var& x, double number) {
  return Var(x.context(), full(x.context(), {}, number, x.value().dtype()));
}

void affine_backward(BackwardStep& step) {
  step.add(0, kernels::affine(step.context(), step.dy(), step.attributes<double>(), 0.0));
}

/// What a unary op saves.
enum class Saved { x, y, nothing };

template <kernels::UnaryOp op>
void unary_backward(BackwardStep& step) {
  const Tensor& saved = step.saved_count() != 0 ? step.saved(0) : step.dy();
  step.add(0, kernels::unary_backward(step.context(), op, step.dy(), saved));
}

}  // namespace

#define LLSA_DEFINE(name, ...)                                                       \
  Var name(const Var& a, const Var& b) {                                             \
    Tensor y = kernels::name(a.context(), a.value(), b.value());                     \
    std::vector<Tensor> saved = name##_saves(a, b, y);                               \
    return record(#name, {&a, &b}, std::move(y), name##_backward, std::move(saved)); \
  }
LLSA_BINARY_OPS(LLSA_DEFINE)
#undef LLSA_DEFINE

#define LLSA_DEFINE(name, what, ...)                                                                    \
  Var name(const Var& x) {                                                                              \
    Tensor y = kernels::name(x.context(), x.value());                                                   \
    std::vector<Tensor> saved;                                                                          \
    if (Saved::what != Saved::nothing) saved.push_back(Saved::what == Saved::x ? x.value() : y);        \
    return record(#name, {&x}, std::move(y), unary_backward<kernels::UnaryOp::name>, std::move(saved)); \
  }
LLSA_UNARY_OPS(LLSA_DEFINE)
#undef LLSA_DEFINE

#define LLSA_DEFINE(name, relation)                                            \
  Var name(const Var& a, const Var& b) {                                       \
    return Var(a.context(), kernels::name(a.context(), a.value(), b.value())); \
  }                                                                            \
  Var name(const Var& a, double b) { return name(a, constant(a, b)); }         \
  Var name(double a, const Var& b) { return name(constant(b, a), b); }
LLSA_COMPARISONS(LLSA_DEFINE)
#undef LLSA_DEFINE

Var operator/(double dividend, const Var& x) { return div(constant(x, dividend), x); }

Var clamp(const Var& x, double low, double high) {
  return record("clamp", {&x}, kernels::clamp(x.context(), x.value(), low, high), clamp_backward,
                saving(x.value()), Limits{low, high});
}

Var where(const Var& condition, const Var& a, const Var& b) {
  return record("where", {&a, &b}, kernels::where(a.context(), condition.value(), a.value(), b.value()),
                where_backward, saving(condition.value()));
}

Var affine(const Var& x, double scale, double shift) {
  return record("affine", {&x}, kernels::affine(x.context(), x.value(), scale, shift), affine_backward, {},
                scale);
}

}  // namespace llsa

#include "kernels/elementwise.h"

#include "kernels/backend.h"
#include "kernels/check.h"
#include "kernels/copy.h"

namespace llsa::kernels {
namespace {

Tensor binary(Context& ctx, BinaryOp op, const char* where, const Tensor& a, const Tensor& b) {
  check::on_device(ctx, where, {{"a", a}, {"b", b}});
  check::floating(where, {"a", a});
  check::same_dtype(where, {"a", a}, {"b", b});
  if (a.shape() == b.shape()) {
    Tensor out = ctx.empty_like(a);
    backend(ctx).elementwise.binary(ctx, op, a, b, out);
    return out;
  }
  const Shape shape = broadcast_shapes(a.shape(), b.shape());
  Tensor out = ctx.empty(shape, a.dtype());
  backend(ctx).elementwise.binary(ctx, op, a.expand(shape), b.expand(shape), out);
  return out;
}

Tensor unary(Context& ctx, UnaryOp op, const char* where, const Tensor& x) {
  check::on_device(ctx, where, {{"x", x}});
  check::floating(where, {"x", x});
  Tensor y = ctx.empty_like(x);
  backend(ctx).elementwise.unary(ctx, op, contiguous(ctx, x), y);
  return y;
}

Tensor unary_backward(Context& ctx, UnaryBackwardOp op, const char* where, const Tensor& dy,
                      const Tensor& saved) {
  check::on_device(ctx, where, {{"dy", dy}, {"saved", saved}});
  check::floating(where, {"dy", dy});
  check::same_dtype(where, {"dy", dy}, {"saved", saved});
  check::shape(where, {"dy", dy}, saved.shape());
  Tensor dx = ctx.empty_like(dy);
  backend(ctx).elementwise.unary_backward(ctx, op, contiguous(ctx, dy), contiguous(ctx, saved), dx);
  return dx;
}

}  // namespace

Tensor add(Context& ctx, const Tensor& a, const Tensor& b) { return binary(ctx, BinaryOp::add, "add", a, b); }
Tensor sub(Context& ctx, const Tensor& a, const Tensor& b) { return binary(ctx, BinaryOp::sub, "sub", a, b); }
Tensor mul(Context& ctx, const Tensor& a, const Tensor& b) { return binary(ctx, BinaryOp::mul, "mul", a, b); }
Tensor div(Context& ctx, const Tensor& a, const Tensor& b) { return binary(ctx, BinaryOp::div, "div", a, b); }

Tensor affine(Context& ctx, const Tensor& x, double scale, double shift) {
  check::on_device(ctx, "affine", {{"x", x}});
  check::floating("affine", {"x", x});
  Tensor y = ctx.empty_like(x);
  backend(ctx).elementwise.affine(ctx, contiguous(ctx, x), scale, shift, y);
  return y;
}

Tensor exp(Context& ctx, const Tensor& x) { return unary(ctx, UnaryOp::exp, "exp", x); }
Tensor log(Context& ctx, const Tensor& x) { return unary(ctx, UnaryOp::log, "log", x); }
Tensor sqrt(Context& ctx, const Tensor& x) { return unary(ctx, UnaryOp::sqrt, "sqrt", x); }
Tensor neg(Context& ctx, const Tensor& x) { return unary(ctx, UnaryOp::neg, "neg", x); }
Tensor tanh(Context& ctx, const Tensor& x) { return unary(ctx, UnaryOp::tanh, "tanh", x); }
Tensor sigmoid(Context& ctx, const Tensor& x) { return unary(ctx, UnaryOp::sigmoid, "sigmoid", x); }
Tensor relu(Context& ctx, const Tensor& x) { return unary(ctx, UnaryOp::relu, "relu", x); }
Tensor square(Context& ctx, const Tensor& x) { return unary(ctx, UnaryOp::square, "square", x); }
Tensor silu(Context& ctx, const Tensor& x) { return unary(ctx, UnaryOp::silu, "silu", x); }
Tensor gelu_tanh(Context& ctx, const Tensor& x) { return unary(ctx, UnaryOp::gelu_tanh, "gelu_tanh", x); }
Tensor gelu_erf(Context& ctx, const Tensor& x) { return unary(ctx, UnaryOp::gelu_erf, "gelu_erf", x); }

Tensor tanh_backward(Context& ctx, const Tensor& dy, const Tensor& y) {
  return unary_backward(ctx, UnaryBackwardOp::tanh, "tanh_backward", dy, y);
}
Tensor sigmoid_backward(Context& ctx, const Tensor& dy, const Tensor& y) {
  return unary_backward(ctx, UnaryBackwardOp::sigmoid, "sigmoid_backward", dy, y);
}
Tensor relu_backward(Context& ctx, const Tensor& dy, const Tensor& x) {
  return unary_backward(ctx, UnaryBackwardOp::relu, "relu_backward", dy, x);
}
Tensor silu_backward(Context& ctx, const Tensor& dy, const Tensor& x) {
  return unary_backward(ctx, UnaryBackwardOp::silu, "silu_backward", dy, x);
}
Tensor gelu_tanh_backward(Context& ctx, const Tensor& dy, const Tensor& x) {
  return unary_backward(ctx, UnaryBackwardOp::gelu_tanh, "gelu_tanh_backward", dy, x);
}
Tensor gelu_erf_backward(Context& ctx, const Tensor& dy, const Tensor& x) {
  return unary_backward(ctx, UnaryBackwardOp::gelu_erf, "gelu_erf_backward", dy, x);
}

void accumulate(Context& ctx, const Tensor& x, const Tensor& into) {
  check::on_device(ctx, "accumulate", {{"x", x}, {"into", into}});
  check::floating("accumulate", {"into", into});
  check::same_dtype("accumulate", {"x", x}, {"into", into});
  backend(ctx).elementwise.accumulate(ctx, x.shape() == into.shape() ? x : x.expand(into.shape()), into);
}

Tensor all_finite(Context& ctx, const Tensor& x) {
  check::on_device(ctx, "all_finite", {{"x", x}});
  check::floating("all_finite", {"x", x});
  Tensor flag = ctx.empty(Shape{1}, DType::i32);
  backend(ctx).elementwise.all_finite(ctx, contiguous(ctx, x), flag);
  return flag;
}

}  // namespace llsa::kernels

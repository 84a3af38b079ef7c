// Elementwise operations: checks and allocation.
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

}  // namespace

#define LLSA_DEFINE(name, ...)                                  \
  Tensor name(Context& ctx, const Tensor& a, const Tensor& b) { \
    return binary(ctx, BinaryOp::name, #name, a, b);            \
  }
LLSA_BINARY_OPS(LLSA_DEFINE)
LLSA_COMPARISONS(LLSA_DEFINE)
#undef LLSA_DEFINE

#define LLSA_DEFINE(name, ...) \
  Tensor name(Context& ctx, const Tensor& x) { return unary(ctx, UnaryOp::name, #name, x); }
LLSA_UNARY_OPS(LLSA_DEFINE)
#undef LLSA_DEFINE

Tensor unary_backward(Context& ctx, UnaryOp op, const Tensor& dy, const Tensor& saved) {
  Tensor dx = ctx.empty_like(dy);
  backend(ctx).elementwise.unary_backward(ctx, op, contiguous(ctx, dy), contiguous(ctx, saved), dx);
  return dx;
}

Tensor affine(Context& ctx, const Tensor& x, double scale, double shift) {
  check::on_device(ctx, "affine", {{"x", x}});
  check::floating("affine", {"x", x});
  Tensor y = ctx.empty_like(x);
  backend(ctx).elementwise.affine(ctx, contiguous(ctx, x), scale, shift, y);
  return y;
}

Tensor clamp(Context& ctx, const Tensor& x, double low, double high) {
  check::on_device(ctx, "clamp", {{"x", x}});
  check::floating("clamp", {"x", x});
  if (!(low <= high)) throw ValueError(cat("[clamp] expected low <= high, got ", low, " and ", high));
  Tensor y = ctx.empty_like(x);
  backend(ctx).elementwise.clamp(ctx, contiguous(ctx, x), low, high, y);
  return y;
}

Tensor clamp_backward(Context& ctx, const Tensor& dy, const Tensor& x, double low, double high) {
  Tensor dx = ctx.empty_like(dy);
  backend(ctx).elementwise.clamp_backward(ctx, contiguous(ctx, dy), contiguous(ctx, x), low, high, dx);
  return dx;
}

Tensor where(Context& ctx, const Tensor& condition, const Tensor& a, const Tensor& b) {
  check::on_device(ctx, "where", {{"condition", condition}, {"a", a}, {"b", b}});
  check::floating("where", {"a", a});
  check::same_dtype("where", {"a", a}, {"b", b});
  const Shape shape = broadcast_shapes(broadcast_shapes(condition.shape(), a.shape()), b.shape());
  Tensor out = ctx.empty(shape, a.dtype());
  backend(ctx).elementwise.where(ctx, cast(ctx, condition, a.dtype()).expand(shape), a.expand(shape),
                                 b.expand(shape), out);
  return out;
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

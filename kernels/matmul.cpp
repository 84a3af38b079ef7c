// Checks, broadcasting of leading axes, and copies of operands that no library takes as they are.
#include "kernels/matmul.h"

#include <algorithm>

#include "kernels/backend.h"
#include "kernels/check.h"
#include "kernels/copy.h"

namespace llsa::kernels {
namespace {

/// x, or a contiguous copy unless one of its two last axes has unit stride and the other steps over it
/// without overlap.
Tensor with_unit_stride(Context& ctx, const Tensor& x) {
  const std::int64_t rows = x.size(-2), cols = x.size(-1), row = x.stride(-2), col = x.stride(-1);
  const bool by_rows = (col == 1 || cols == 1) && (row >= cols || rows == 1);
  const bool by_cols = (row == 1 || rows == 1) && (col >= rows || cols == 1);
  return by_rows || by_cols ? x : clone(ctx, x);
}

/// x[B...,r,c] as [B,r,c], where B... are the leading axes of the result.
Tensor as_batch(Context& ctx, const Tensor& x, const std::vector<std::int64_t>& leading, std::int64_t count) {
  const std::int64_t rows = x.size(-2), cols = x.size(-1);
  if (x.numel() == rows * cols) return x.reshape({1, rows, cols}).expand(Shape{count, rows, cols});
  std::vector<std::int64_t> full = leading;
  full.insert(full.end(), {rows, cols});
  const Tensor expanded = x.expand(Shape(full));
  const bool like_one = expanded.can_view_as({count, rows, cols});  // the leading axes in memory
  return (like_one ? expanded : clone(ctx, expanded)).reshape({count, rows, cols});
}

/// Of x[...,in] w[out,in]^T: rows of x, out, in.
struct LinearSizes {
  std::int64_t m, n, k;
};
LinearSizes sizes_of(const Tensor& x, const Tensor& w) {
  std::int64_t m = 1;
  for (int i = 0; i + 1 < x.rank(); ++i) m *= x.size(i);
  return {m, w.size(0), w.size(1)};
}

LinearSizes check_linear(Context& ctx, const char* where, const Tensor& x, const Tensor& w,
                         const Tensor& bias) {
  check::on_device(ctx, where, {{"x", x}, {"w", w}});
  check::floating(where, {"x", x});
  check::same_dtype(where, {"x", x}, {"w", w});
  if (x.rank() < 1 || w.rank() != 2 || x.size(-1) != w.size(1)) {
    throw ShapeError(
        cat("[", where, "] expected x[...,in] and w[out,in], got x ", x.shape(), " and w ", w.shape()));
  }
  if (bias.defined()) {
    check::on_device(ctx, where, {{"bias", bias}});
    check::same_dtype(where, {"x", x}, {"bias", bias});
    check::shape(where, {"bias", bias}, Shape{w.size(0)});
  }
  return sizes_of(x, w);
}

Shape with_last(const Shape& shape, std::int64_t last) {
  std::vector<std::int64_t> extents = shape.extents();
  extents.back() = last;
  return Shape(extents);
}

}  // namespace

Tensor matmul(Context& ctx, const Tensor& a, const Tensor& b, bool trans_a, bool trans_b) {
  check::on_device(ctx, "matmul", {{"a", a}, {"b", b}});
  check::floating("matmul", {"a", a});
  check::same_dtype("matmul", {"a", a}, {"b", b});
  if (a.rank() < 2 || b.rank() < 2)
    throw ShapeError(cat("[matmul] expected at least two axes, got ", a.shape(), " and ", b.shape()));
  const Tensor left = trans_a ? a.transpose(-2, -1) : a;
  const Tensor right = trans_b ? b.transpose(-2, -1) : b;
  if (left.size(-1) != right.size(-2)) {
    throw ShapeError(cat("[matmul] inner extents differ: ", a.shape(), trans_a ? " transposed" : "",
                         " times ", b.shape(), trans_b ? " transposed" : ""));
  }
  const auto leading_of = [](const Tensor& x) {
    return Shape(std::vector<std::int64_t>(x.shape().begin(), x.shape().end() - 2));
  };
  const Shape leading = broadcast_shapes(leading_of(left), leading_of(right));
  const std::int64_t m = left.size(-2), n = right.size(-1);
  std::vector<std::int64_t> extents = leading.extents();
  extents.insert(extents.end(), {m, n});
  Tensor out = ctx.empty(Shape(extents), a.dtype());
  if (out.numel() == 0) return out;
  const std::int64_t count = leading.numel();
  backend(ctx).matmul.matmul(ctx, as_batch(ctx, with_unit_stride(ctx, left), leading.extents(), count),
                             as_batch(ctx, with_unit_stride(ctx, right), leading.extents(), count),
                             out.reshape({count, m, n}));
  return out;
}

Tensor linear(Context& ctx, const Tensor& x, const Tensor& w, const Tensor& bias) {
  const auto [m, n, k] = check_linear(ctx, "linear", x, w, bias);
  Tensor y = ctx.empty(with_last(x.shape(), n), x.dtype());
  if (y.numel() != 0) {
    backend(ctx).matmul.linear(ctx, contiguous(ctx, x).reshape({m, k}), with_unit_stride(ctx, w), bias,
                               y.reshape({m, n}), {});
  }
  return y;
}

LinearGelu linear_gelu(Context& ctx, const Tensor& x, const Tensor& w, const Tensor& bias) {
  const auto [m, n, k] = check_linear(ctx, "linear_gelu", x, w, bias);
  const Shape shape = with_last(x.shape(), n);
  LinearGelu result{ctx.empty(shape, x.dtype()), ctx.empty(shape, x.dtype())};
  if (result.y.numel() != 0) {
    backend(ctx).matmul.linear(ctx, contiguous(ctx, x).reshape({m, k}), with_unit_stride(ctx, w), bias,
                               result.y.reshape({m, n}), result.pre.reshape({m, n}));
  }
  return result;
}

Tensor linear_backward(Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& w, const Tensor& pre,
                       bool need_dx, const Tensor& dw, const Tensor& db) {
  const auto [m, n, k] = sizes_of(x, w);
  if (dy.numel() == 0) {
    for (const Tensor& sums : {dw, db})
      if (sums.defined()) fill(ctx, sums, 0.0);
    return need_dx ? ctx.zeros(x.shape(), x.dtype()) : Tensor();
  }
  LinearBackwardArgs args;
  if (pre.defined()) args.pre = contiguous(ctx, pre).reshape({m, k});
  args.dy = contiguous(ctx, dy).reshape({m, n});
  args.x = contiguous(ctx, x).reshape({m, k});
  args.w = with_unit_stride(ctx, w);
  if (need_dx) args.dx = ctx.empty(Shape{m, k}, x.dtype());
  args.dw = dw;
  args.db = db;
  backend(ctx).matmul.linear_backward(ctx, args);
  return need_dx ? args.dx.reshape(x.shape()) : Tensor();
}

LinearGrads linear_backward(Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& w, bool need_dx,
                            bool need_dw, bool need_db, const Tensor& pre) {
  const DType sums = accumulator_of(x.dtype());
  LinearGrads grads;
  if (need_dw) grads.dw = ctx.empty(w.shape(), sums);
  if (need_db) grads.db = ctx.empty(Shape{w.size(0)}, sums);
  grads.dx = linear_backward(ctx, dy, x, w, pre, need_dx, grads.dw, grads.db);
  return grads;
}

void tune_products(Context& ctx, bool on) { backend(ctx).matmul.tune_products(ctx, on); }

ProductChoices product_choices(Context& ctx) { return backend(ctx).matmul.product_choices(ctx); }

bool restore_product_choices(Context& ctx, const ProductChoices& choices) {
  return backend(ctx).matmul.restore_product_choices(ctx, choices);
}

}  // namespace llsa::kernels

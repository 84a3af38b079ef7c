#include "kernels/reduce.h"

#include <limits>

#include "kernels/backend.h"
#include "kernels/check.h"
#include "kernels/copy.h"

namespace llsa::kernels {
namespace {

Tensor reduce(Context& ctx, ReduceOp op, const char* where, const Tensor& x, const std::vector<int>& axes,
              bool keepdim) {
  check::on_device(ctx, where, {{"x", x}});
  check::floating(where, {"x", x});
  std::vector<bool> reduced(static_cast<std::size_t>(x.rank()), axes.empty());
  for (const int axis : axes) {
    const auto at = static_cast<std::size_t>(x.shape().normalize_axis(axis));
    if (reduced[at]) throw ShapeError(cat("[", where, "] axis ", axis, " of ", x.shape(), " is named twice"));
    reduced[at] = true;
  }
  std::vector<std::int64_t> kept, ones = x.shape().extents();
  for (std::size_t i = 0; i < reduced.size(); ++i) {
    if (reduced[i])
      ones[i] = 1;
    else
      kept.push_back(ones[i]);
  }
  Tensor y = ctx.empty(Shape(ones), x.dtype());
  if (op == ReduceOp::max && x.numel() == 0 && y.numel() != 0)
    throw ShapeError(cat("[", where, "] has no elements to choose from in ", x.shape()));
  backend(ctx).reduce.reduce(ctx, op, contiguous(ctx, x), y);
  return keepdim ? y : y.reshape(kept);
}

}  // namespace

Tensor sum(Context& ctx, const Tensor& x, const std::vector<int>& axes, bool keepdim) {
  return reduce(ctx, ReduceOp::sum, "sum", x, axes, keepdim);
}

Tensor mean(Context& ctx, const Tensor& x, const std::vector<int>& axes, bool keepdim) {
  return reduce(ctx, ReduceOp::mean, "mean", x, axes, keepdim);
}

Tensor max(Context& ctx, const Tensor& x, const std::vector<int>& axes, bool keepdim) {
  return reduce(ctx, ReduceOp::max, "max", x, axes, keepdim);
}

Tensor argmax(Context& ctx, const Tensor& x, int axis, bool keepdim) {
  check::on_device(ctx, "argmax", {{"x", x}});
  check::floating("argmax", {"x", x});
  const int at = x.shape().normalize_axis(axis);
  const std::int64_t length = x.size(at);
  if (length < 1 || length > std::numeric_limits<std::int32_t>::max())
    throw ShapeError(cat("[argmax] expected 1 to 2^31 - 1 elements on axis ", axis, " of ", x.shape()));
  std::int64_t outer = 1, columns = 1;
  for (int i = 0; i < x.rank(); ++i) (i < at ? outer : columns) *= i == at ? 1 : x.size(i);
  std::vector<std::int64_t> kept = x.shape().extents();
  kept[static_cast<std::size_t>(at)] = 1;
  if (!keepdim) kept.erase(kept.begin() + at);
  const Tensor y = ctx.empty(Shape(kept), DType::i32);
  if (y.numel() != 0)
    backend(ctx).reduce.argmax(ctx, contiguous(ctx, x).reshape({outer, length, columns}),
                               y.reshape({outer, columns}));
  return y;
}

Tensor sum_to(Context& ctx, const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  const int added = x.rank() - shape.rank();
  bool fits = added >= 0;
  std::vector<int> axes;
  for (int i = 0; fits && i < x.rank(); ++i) {
    const std::int64_t wanted = i < added ? 1 : shape[i - added];
    if (i < added || (wanted == 1 && x.size(i) != 1))
      axes.push_back(i);
    else
      fits = wanted == x.size(i);
  }
  if (!fits) throw ShapeError(cat("[sum_to] ", shape, " does not broadcast to ", x.shape()));
  return axes.empty() ? x.reshape(shape) : sum(ctx, x, axes, true).reshape(shape);
}

}  // namespace llsa::kernels

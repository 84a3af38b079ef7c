#include "kernels/reduce.h"

#include <algorithm>
#include <limits>

#include "kernels/backend.h"
#include "kernels/check.h"
#include "kernels/copy.h"

namespace llsa::kernels {
namespace {

struct Axis {
  std::int64_t extent;
  bool reduced;
};

/// Axes of extent 1 are dropped and neighbours of equal fate merged, which leaves axes that are alternately
/// kept and reduced.
std::vector<Axis> merged_axes(const Shape& shape, const std::vector<bool>& reduced) {
  std::vector<Axis> axes;
  for (std::size_t i = 0; i < reduced.size(); ++i) {
    const std::int64_t extent = shape[static_cast<int>(i)];
    if (extent == 1) continue;
    if (!axes.empty() && axes.back().reduced == reduced[i])
      axes.back().extent *= extent;
    else
      axes.push_back({extent, reduced[i]});
  }
  return axes;
}

/// Folds one axis after the other, the innermost first. Neither x nor y is empty.
void fold_axes(Context& ctx, FoldOp op, const Tensor& x, std::vector<Axis> axes, double divisor,
               const Tensor& y) {
  Tensor part = contiguous(ctx, x);
  auto left = std::count_if(axes.begin(), axes.end(), [](const Axis& axis) { return axis.reduced; });
  if (left == 0) return copy(ctx, part.reshape(y.shape()), y);
  for (std::size_t i = axes.size(); left > 0;) {
    if (!axes[--i].reduced) continue;
    std::int64_t outer = 1, columns = 1;
    for (std::size_t j = 0; j < i; ++j) outer *= axes[j].extent;
    for (std::size_t j = i + 1; j < axes.size(); ++j) columns *= axes[j].extent;
    const bool last = --left == 0;
    const Tensor to = last ? y : ctx.empty(Shape{outer, columns}, accumulator_of(x.dtype()));
    backend(ctx).reduce.fold(ctx, op, part.reshape({outer, axes[i].extent, columns}), last ? divisor : 1.0,
                             to.reshape({outer, columns}));
    part = to;
    axes[i].extent = 1;
  }
}

enum class Kind { sum, mean, max };

Tensor reduce(Context& ctx, Kind kind, const char* where, const Tensor& x, const std::vector<int>& axes,
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
  const Tensor y = ctx.empty(Shape(keepdim ? ones : kept), x.dtype());
  if (y.numel() == 0) return y;
  if (x.numel() == 0) {
    if (kind == Kind::max)
      throw ShapeError(cat("[", where, "] has no elements to choose from in ", x.shape()));
    fill(ctx, y, kind == Kind::mean ? std::numeric_limits<double>::quiet_NaN() : 0.0);
    return y;
  }
  fold_axes(ctx, kind == Kind::max ? FoldOp::max : FoldOp::sum, x, merged_axes(x.shape(), reduced),
            kind == Kind::mean ? static_cast<double>(x.numel() / y.numel()) : 1.0, y);
  return y;
}

}  // namespace

Tensor sum(Context& ctx, const Tensor& x, const std::vector<int>& axes, bool keepdim) {
  return reduce(ctx, Kind::sum, "sum", x, axes, keepdim);
}

Tensor mean(Context& ctx, const Tensor& x, const std::vector<int>& axes, bool keepdim) {
  return reduce(ctx, Kind::mean, "mean", x, axes, keepdim);
}

Tensor max(Context& ctx, const Tensor& x, const std::vector<int>& axes, bool keepdim) {
  return reduce(ctx, Kind::max, "max", x, axes, keepdim);
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

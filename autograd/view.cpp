// Views and their inverses.

#include "autograd/view.h"

#include "autograd/node.h"
#include "kernels/copy.h"
#include "kernels/reduce.h"

namespace llsa {
namespace {

void reshape_backward(BackwardStep& step) {
  step.add(0, kernels::contiguous(step.context(), step.take_dy()).reshape(step.input_shape(0)));
}

void transpose_backward(BackwardStep& step) {
  const auto axes = step.attributes<std::pair<int, int>>();
  step.add(0, step.take_dy().transpose(axes.first, axes.second));
}

void permute_backward(BackwardStep& step) {
  step.add(0, step.take_dy().permute(step.attributes<std::vector<int>>()));
}

struct SliceAttributes {
  int axis;
  std::int64_t begin, end, step;
};

void slice_backward(BackwardStep& step) {
  const auto& a = step.attributes<SliceAttributes>();
  const Tensor dx = step.context().zeros(step.input_shape(0), step.dy().dtype());
  kernels::copy(step.context(), step.dy(), dx.slice(a.axis, a.begin, a.end, a.step));
  step.add(0, dx);
}

struct SplitAttributes {
  int axis;
  std::vector<std::int64_t> extents;
  DType dtype;
};

void split_backward(BackwardStep& step) {
  const auto& a = step.attributes<SplitAttributes>();
  Tensor dx = step.context().empty(step.input_shape(0), a.dtype);
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < a.extents.size(); ++i) {
    const Tensor piece = dx.slice(a.axis, begin, begin + a.extents[i]);
    const Tensor& dy = step.dy(static_cast<int>(i));
    if (dy.defined())
      kernels::copy(step.context(), dy, piece);
    else
      kernels::fill(step.context(), piece, 0.0);
    begin += a.extents[i];
  }
  step.add(0, std::move(dx));
}

void expand_backward(BackwardStep& step) {
  step.add(0, kernels::sum_to(step.context(), step.dy(), step.input_shape(0)));
}

}  // namespace

Var reshape(const Var& x, const std::vector<std::int64_t>& extents) {
  const Tensor& value = x.value();
  const Tensor source = value.can_view_as(extents) ? value : kernels::contiguous(x.context(), value);
  return record("reshape", {&x}, source.reshape(extents), reshape_backward);
}

Var transpose(const Var& x, int axis_a, int axis_b) {
  return record("transpose", {&x}, x.value().transpose(axis_a, axis_b), transpose_backward, {},
                std::pair<int, int>(axis_a, axis_b));
}

Var permute(const Var& x, const std::vector<int>& axes) {
  Tensor y = x.value().permute(axes);
  std::vector<int> inverse(axes.size());
  for (std::size_t i = 0; i < axes.size(); ++i)
    inverse[static_cast<std::size_t>(x.shape().normalize_axis(axes[i]))] = static_cast<int>(i);
  return record("permute", {&x}, std::move(y), permute_backward, {}, std::move(inverse));
}

Var slice(const Var& x, int axis, std::int64_t begin, std::int64_t end, std::int64_t step) {
  return record("slice", {&x}, x.value().slice(axis, begin, end, step), slice_backward, {},
                SliceAttributes{axis, begin, end, step});
}

std::vector<Var> split(const Var& x, const std::vector<std::int64_t>& extents, int axis) {
  std::vector<Tensor> pieces;
  pieces.reserve(extents.size());
  std::int64_t begin = 0;
  const std::int64_t end = x.size(axis);
  for (const std::int64_t extent : extents) {
    if (extent < 0 || extent > end - begin)
      throw ShapeError(cat("[split] a piece of ", extent, " from ", begin, " does not fit into axis ", axis,
                           " of ", x.shape()));
    pieces.push_back(x.value().slice(axis, begin, begin + extent));
    begin += extent;
  }
  if (begin != end)
    throw ShapeError(
        cat("[split] the pieces add up to ", begin, ", axis ", axis, " of ", x.shape(), " has ", end));
  const Var* input = &x;
  return record_all("split", std::span<const Var* const>(&input, 1), std::move(pieces), split_backward, {},
                    SplitAttributes{axis, extents, x.dtype()});
}

std::vector<Var> chunk(const Var& x, int pieces, int axis) {
  const std::int64_t extent = x.size(axis);
  constexpr int kMost = 1 << 20;  // each piece is a tensor of its own
  if (pieces < 1 || pieces > kMost || extent % pieces != 0)
    throw ShapeError(cat("[chunk] expected a number of pieces from 1 to ", kMost, " that divides ", extent,
                         ", got ", pieces));
  return split(x, std::vector<std::int64_t>(static_cast<std::size_t>(pieces), extent / pieces), axis);
}

Var expand(const Var& x, const Shape& shape) {
  return record("expand", {&x}, x.value().expand(shape), expand_backward);
}

}  // namespace llsa

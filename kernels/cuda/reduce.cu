// Reductions of contiguous tensors: y = the sum, mean or largest value of x over some axes.
//
// Axes of extent 1 are dropped and neighbours of equal fate merged, which leaves axes that are alternately
// kept and reduced. They are folded one after the other, the innermost first; device/fold.cuh has the kernels
// and their tiling.
// Bytes: x once, 4 per element in f32 and 2 in bf16; then the partial results, much fewer where axes are
// long. One operation per element, 0.25 or 0.5 per byte: bound by memory; small tensors by their launches,
// one for each reduced axis and more where it is longer than a block of device/fold.cuh.
#include "kernels/backend/tensors.h"

#include <limits>
#include <vector>

#include "kernels/cuda/device/fold.cuh"

namespace llsa::kernels::cuda {
namespace {

struct Axis {
  std::int64_t extent;
  bool reduced;
};

std::vector<Axis> merged_axes(const Shape& from, const Shape& to) {
  std::vector<Axis> axes;
  for (int i = 0; i < from.rank(); ++i) {
    if (from[i] == 1) continue;
    const bool reduced = to[i] == 1;
    if (!axes.empty() && axes.back().reduced == reduced)
      axes.back().extent *= from[i];
    else
      axes.push_back({from[i], reduced});
  }
  return axes;
}

template <class Op, class T>
void reduce_with(Context& ctx, const Tensor& x, const Tensor& y, bool mean) {
  using A = accumulator_t<T>;
  std::vector<Axis> axes = merged_axes(x.shape(), y.shape());
  std::size_t left = 0;
  for (const Axis& axis : axes) left += axis.reduced ? 1 : 0;
  if (left == 0) return kCopy.copy(ctx, x, y);
  const double divisor = mean ? static_cast<double>(x.numel() / y.numel()) : 1.0;
  Tensor partial;  // undefined until the first axis is folded
  for (std::size_t i = axes.size(); i-- > 0;) {
    if (!axes[i].reduced) continue;
    std::int64_t outer = 1, columns = 1;
    for (std::size_t j = 0; j < i; ++j) outer *= axes[j].extent;
    for (std::size_t j = i + 1; j < axes.size(); ++j) columns *= axes[j].extent;
    const auto fold = [&](const auto* from, double by, auto* to) {
      fold_axis<Op, A>(ctx, from, outer, axes[i].extent, columns, by, to);
    };
    const bool last = --left == 0;
    const Tensor next = last ? y : ctx.empty(Shape{outer, columns}, dtype_of<A>::value);
    const T* const in = device_data<T>(x);
    if (last && partial.defined())
      fold(partial.data<A>(), divisor, device_data<T>(y));
    else if (last)
      fold(in, divisor, device_data<T>(y));
    else if (partial.defined())
      fold(partial.data<A>(), 1.0, next.data<A>());
    else
      fold(in, 1.0, next.data<A>());
    partial = next;
    axes[i].extent = 1;
  }
}

void reduce(Context& ctx, ReduceOp op, const Tensor& x, const Tensor& y) {
  if (y.numel() == 0) return;
  if (x.numel() == 0)
    return kCopy.fill(ctx, y, op == ReduceOp::mean ? std::numeric_limits<double>::quiet_NaN() : 0.0);
  visit_device(x.dtype(), "reduce", [&]<class T>() {
    if (op == ReduceOp::max)
      reduce_with<FoldMax, T>(ctx, x, y, false);
    else
      reduce_with<FoldSum, T>(ctx, x, y, op == ReduceOp::mean);
  });
}

/// NaN is larger than any number.
template <class A>
__device__ bool is_larger(A a, A b) {
  return a > b || (a != a && b == b);
}

/// y[a,c] = where the largest x[a,:,c] stands, by a warp for each.
template <class T>
__global__ void find_largest(std::int64_t count, std::int64_t length, std::int64_t columns, const T* x,
                             std::int32_t* y) {
  using A = accumulator_t<T>;
  const std::int64_t i = piece_of_warp();
  if (i >= count) return;
  const T* const from = x + i / columns * length * columns + i % columns;
  A most = static_cast<A>(from[0]);
  std::int32_t best = 0;
  for (std::int64_t j = lane_of_thread(); j < length; j += 32) {
    const A value = static_cast<A>(from[j * columns]);
    if (!is_larger(value, most)) continue;
    most = value;
    best = static_cast<std::int32_t>(j);
  }
  for (int step = 16; step > 0; step /= 2) {
    const A value = __shfl_xor_sync(kAllLanes, most, step);
    const std::int32_t at = __shfl_xor_sync(kAllLanes, best, step);
    if (is_larger(value, most) || (!is_larger(most, value) && at < best)) {
      most = value;
      best = at;
    }
  }
  if (lane_of_thread() == 0) y[i] = best;
}

void argmax(Context& ctx, const Tensor& x, const Tensor& y) {
  visit_device(x.dtype(), "argmax", [&]<class T>() {
    launch_warps(ctx, find_largest<T>, y.numel(), y.numel(), x.size(1), x.size(2),
                 static_cast<const T*>(device_data<T>(x)), y.data<std::int32_t>());
  });
}

}  // namespace

constinit const ReduceBackend kReduce = {.reduce = reduce, .argmax = argmax};

}  // namespace llsa::kernels::cuda

// Folding the middle axis of a contiguous tensor, [A,R,C] -> [A,C], to its sum or largest element, and argmax.
//
// The kernels of a fold and their tiling are in device/fold.cuh. Argmax: a warp per result, whose lanes take
// the elements of the axis in turn; read from memory once, bound by memory, with one 32-byte sector for each
// element where the axis is not the last one.
#include "kernels/backend/tensors.h"

#include "kernels/cuda/device/fold.cuh"

namespace llsa::kernels::cuda {
namespace {

template <class Op>
void fold_with(Context& ctx, const Tensor& x, double divisor, const Tensor& y) {
  visit_device(x.dtype(), "reduce", [&]<class T>() {
    using A = accumulator_t<T>;
    const auto to = [&](auto* out) {
      fold_axis<Op, A>(ctx, static_cast<const T*>(device_data<T>(x)), x.size(0), x.size(1), x.size(2),
                       divisor, out);
    };
    if (y.dtype() == dtype_of<A>::value)
      to(y.data<A>());
    else
      to(device_data<__nv_bfloat16>(y));
  });
}

void fold(Context& ctx, FoldOp op, const Tensor& x, double divisor, const Tensor& y) {
  (op == FoldOp::max ? fold_with<FoldMax> : fold_with<FoldSum>)(ctx, x, divisor, y);
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

constinit const ReduceBackend kReduce = {.fold = fold, .argmax = argmax};

}  // namespace llsa::kernels::cuda

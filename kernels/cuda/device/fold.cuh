// Folding one axis: x[A,R,C] -> y[A,C], by sums or largest values, in a fixed order.
//
// R is cut into blocks whose length depends on the extents alone. C > 1: a thread folds one column of a block
// in sequence. C = 1: the lanes of a warp take the elements of a block in turn and are folded as a tree.
// Partial results of the blocks are folded in the same way again, until one is left, which is divided (for
// means) and rounded to the type of y.
//
// Blocks: 64 elements of a column, 2048 of a row. Bytes: x is read once, 4 per element in f32 and 2 in bf16; one
// partial result per block, in the accumulator's type, is written and read. One operation per element, 0.25 (0.5)
// per byte: bound by memory, or by the latency of the loops where there are few blocks. There is one more launch
// for each factor of 64 or 2048 in R.
#pragma once

#include <algorithm>
#include <limits>

#include "launch.cuh"
#include "types.cuh"

namespace llsa::kernels::cuda {

struct FoldSum {
  template <class A>
  __device__ static A initial() {
    return 0;
  }
  template <class A>
  __device__ static A combine(A a, A b) {
    return a + b;
  }
};

/// A NaN among the elements gives NaN.
struct FoldMax {
  template <class A>
  __device__ static A initial() {
    return -std::numeric_limits<A>::infinity();
  }
  template <class A>
  __device__ static A combine(A a, A b) {
    return b > a || b != b ? b : a;
  }
};

struct FoldShape {
  std::int64_t outer, length, columns;  // A, R, C
  std::int64_t block, blocks;
};

template <class Op, class A, class T, class Y>
__global__ void fold_columns(FoldShape s, const T* x, A divisor, Y* y) {
  const std::int64_t i = piece_of_thread();
  if (i >= s.outer * s.blocks * s.columns) return;
  const std::int64_t column = i % s.columns;
  const std::int64_t block = i / s.columns % s.blocks;
  const std::int64_t outer = i / s.columns / s.blocks;
  const std::int64_t first = block * s.block;
  const std::int64_t count = first + s.block < s.length ? s.block : s.length - first;
  const T* from = x + (outer * s.length + first) * s.columns + column;
  A value = Op::template initial<A>();
  for (std::int64_t r = 0; r < count; ++r, from += s.columns)
    value = Op::combine(value, static_cast<A>(*from));
  y[i] = static_cast<Y>(value / divisor);
}

template <class Op, class A, class T, class Y>
__global__ void fold_rows(FoldShape s, const T* x, A divisor, Y* y) {
  const std::int64_t i = piece_of_warp();
  if (i >= s.outer * s.blocks) return;
  const std::int64_t first = i % s.blocks * s.block;
  const std::int64_t count = first + s.block < s.length ? s.block : s.length - first;
  const T* from = x + i / s.blocks * s.length + first;
  A value = Op::template initial<A>();
  for (std::int64_t r = lane_of_thread(); r < count; r += 32)
    value = Op::combine(value, static_cast<A>(from[r]));
  for (int step = 16; step > 0; step /= 2)
    value = Op::combine(value, __shfl_xor_sync(kAllLanes, value, step));
  if (lane_of_thread() == 0) y[i] = static_cast<Y>(value / divisor);
}

/// R may be 0: the result is then the initial value.
template <class Op, class A, class T, class Y>
void fold_axis(Context& ctx, const T* x, std::int64_t outer, std::int64_t length, std::int64_t columns,
               double divisor, Y* y) {
  constexpr std::int64_t kRowBlock = 2048, kColumnBlock = 64;
  const std::int64_t block = columns == 1 ? kRowBlock : kColumnBlock;
  const std::int64_t blocks = std::max<std::int64_t>(1, ceil_div(length, block));
  const FoldShape shape{outer, length, columns, block, blocks};
  const auto launch = [&](double by, auto* to) {
    using To = std::remove_pointer_t<decltype(to)>;
    if (columns == 1)
      launch_warps(ctx, fold_rows<Op, A, T, To>, outer * blocks, shape, x, static_cast<A>(by), to);
    else
      launch_threads(ctx, fold_columns<Op, A, T, To>, outer * blocks * columns, shape, x, static_cast<A>(by),
                     to);
  };
  if (blocks == 1) return launch(divisor, y);
  const Tensor partial = ctx.empty(Shape{outer, blocks, columns}, dtype_of<A>::value);
  A* const sums = partial.data<A>();
  launch(1.0, sums);
  fold_axis<Op, A, A, Y>(ctx, sums, outer, blocks, columns, divisor, y);
}

}  // namespace llsa::kernels::cuda

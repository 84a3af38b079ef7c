// Reductions of contiguous tensors.
//
// Axes of extent 1 are dropped and neighbours of equal fate merged, which leaves axes that are alternately
// kept and reduced. The innermost reduced one is folded first: [A,R,C] -> [A,C]. R is cut into blocks whose
// length depends on C alone; each block is folded in sequence (C > 1) or by vector lanes (C = 1), and the
// results of the blocks are folded in the same way again, until one is left.
#include "kernels/backend/tensors.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/cpu/strided.h"

namespace llsa::kernels::cpu {
namespace {

constexpr int kLanes = 64;                  // sums that run side by side
constexpr std::int64_t kLaneBlock = 1024;   // elements summed by them: 16 each
constexpr std::int64_t kRowBlock = 4096;    // elements folded into one, C = 1
constexpr std::int64_t kColumnTile = 1024;  // columns whose results stay in the first-level cache

struct Sum {
  template <class A>
  static A initial() {
    return 0;
  }
  template <class A>
  static A combine(A a, A b) {
    return a + b;
  }

  template <class A, class T>
  static A fold(const T* x, std::int64_t n) {
    A sum = 0;
    for (std::int64_t begin = 0; begin < n; begin += kLaneBlock) {
      const std::int64_t end = std::min(n, begin + kLaneBlock);
      A lane[kLanes] = {};
      std::int64_t i = begin;
      for (; i + kLanes <= end; i += kLanes) {
#pragma omp simd
        for (int j = 0; j < kLanes; ++j) lane[j] += A(x[i + j]);
      }
      for (int j = 0; i < end; ++i, ++j) lane[j] += A(x[i]);
      for (int width = kLanes / 2; width > 0; width /= 2)
        for (int j = 0; j < width; ++j) lane[j] += lane[j + width];
      sum += lane[0];
    }
    return sum;
  }
};

/// NaN wins over everything.
struct Max {
  template <class A>
  static A initial() {
    return -std::numeric_limits<A>::infinity();
  }
  template <class A>
  static A combine(A a, A b) {
    return b > a || b != b ? b : a;
  }

  template <class A, class T>
  static A fold(const T* x, std::int64_t n) {
    A largest = initial<A>(), nan = 0;
#pragma omp simd reduction(max : largest) reduction(+ : nan)
    for (std::int64_t i = 0; i < n; ++i) {
      const A value(x[i]);
      largest = value > largest ? value : largest;
      nan += value != value ? value : A(0);
    }
    // Some compilers start this reduction at the least finite number, which then hides a row of -infinity.
    constexpr A kLeast = -std::numeric_limits<A>::max();
    const auto is_least = [](const T& value) { return A(value) == kLeast; };
    if (largest == kLeast && std::none_of(x, x + n, is_least)) largest = initial<A>();
    return nan == 0 ? largest : nan;
  }
};

/// Blocks of rows, C > 1.
std::int64_t block_rows(std::int64_t columns) {
  return std::clamp<std::int64_t>(kElementGrain / columns, 16, 64);
}

/// x[A,R,C] -> y[A,blocks,C]
template <class Op, class T, class A>
void fold_blocks(Context& ctx, const T* x, std::int64_t outer, std::int64_t length, std::int64_t columns,
                 std::int64_t block, std::int64_t blocks, A* y) {
  const std::int64_t tile = std::min(columns, kColumnTile);
  const std::int64_t tiles = (columns + tile - 1) / tile;
  const std::int64_t grain = std::max<std::int64_t>(1, kElementGrain / (std::min(block, length) * tile));
  ctx.pool().parallel_ranges(outer * blocks * tiles, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t column = i % tiles * tile;
      const std::int64_t b = i / tiles % blocks;
      const std::int64_t a = i / tiles / blocks;
      const std::int64_t n = std::min(block, length - b * block);
      const T* const from = x + (a * length + b * block) * columns + column;
      A* const to = y + (a * blocks + b) * columns + column;
      if (columns == 1) {
        *to = Op::template fold<A>(from, n);
        continue;
      }
      const std::int64_t width = std::min(tile, columns - column);
      for (std::int64_t c = 0; c < width; ++c) to[c] = A(from[c]);
      for (std::int64_t r = 1; r < n; ++r) {
        const T* const row = from + r * columns;
#pragma omp simd
        for (std::int64_t c = 0; c < width; ++c) to[c] = Op::combine(to[c], A(row[c]));
      }
    }
  });
}

/// x[A,R,C] -> [A,C], R >= 1
template <class Op, class T, class A>
Tensor fold_axis(Context& ctx, const T* x, std::int64_t outer, std::int64_t length, std::int64_t columns) {
  const std::int64_t block = columns == 1 ? kRowBlock : block_rows(columns);
  const std::int64_t blocks = (length + block - 1) / block;
  Tensor y = ctx.empty(Shape{outer, blocks, columns}, dtype_of<A>::value);
  fold_blocks<Op>(ctx, x, outer, length, columns, block, blocks, y.data<A>());
  return blocks == 1 ? y : fold_axis<Op, A, A>(ctx, y.data<A>(), outer, blocks, columns);
}

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
  T* const out = y.data<T>();
  const std::int64_t count = y.numel();
  if (count == 0) return;
  std::vector<Axis> axes = merged_axes(x.shape(), y.shape());
  const A divisor = mean ? static_cast<A>(x.numel() / count) : A(1);
  const auto finish = [&](const auto* values) {
    ctx.pool().parallel_ranges(count, kElementGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) out[i] = T(mean ? A(values[i]) / divisor : A(values[i]));
    });
  };
  if (x.numel() == 0) {
    std::fill_n(out, count, T(mean ? std::numeric_limits<A>::quiet_NaN() : Op::template initial<A>()));
    return;
  }
  Tensor partial;  // undefined until the first axis is folded
  for (std::size_t i = axes.size(); i-- > 0;) {
    if (!axes[i].reduced) continue;
    std::int64_t outer = 1, columns = 1;
    for (std::size_t j = 0; j < i; ++j) outer *= axes[j].extent;
    for (std::size_t j = i + 1; j < axes.size(); ++j) columns *= axes[j].extent;
    const std::int64_t length = axes[i].extent;
    partial = partial.defined() ? fold_axis<Op, A, A>(ctx, partial.data<A>(), outer, length, columns)
                                : fold_axis<Op, T, A>(ctx, x.data<T>(), outer, length, columns);
    axes[i].extent = 1;
  }
  if (partial.defined())
    finish(partial.data<A>());
  else
    finish(x.data<T>());
}

void reduce(Context& ctx, ReduceOp op, const Tensor& x, const Tensor& y) {
  visit_floating(x.dtype(), "reduce", [&]<class T>() {
    if (op == ReduceOp::max)
      reduce_with<Max, T>(ctx, x, y, false);
    else
      reduce_with<Sum, T>(ctx, x, y, op == ReduceOp::mean);
  });
}

void argmax(Context& ctx, const Tensor& x, const Tensor& y) {
  visit_floating(x.dtype(), "argmax", [&]<class T>() {
    using A = accumulator_t<T>;
    const std::int64_t length = x.size(1), columns = x.size(2);
    const std::int64_t grain = std::max<std::int64_t>(1, kElementGrain / length);
    ctx.pool().parallel_ranges(y.numel(), grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const T* const from = x.data<T>() + i / columns * length * columns + i % columns;
        std::int64_t best = 0;
        A most(from[0]);
        for (std::int64_t j = 1; j < length; ++j) {
          const A value(from[j * columns]);
          if (!(value > most || (value != value && most == most))) continue;
          best = j;
          most = value;
        }
        y.data<std::int32_t>()[i] = static_cast<std::int32_t>(best);
      }
    });
  });
}

}  // namespace

constinit const ReduceBackend kReduce = {.reduce = reduce, .argmax = argmax};

}  // namespace llsa::kernels::cpu

// Folding the middle axis of a contiguous tensor, [A,R,C] -> [A,C], and argmax.
//
// R is cut into blocks whose length depends on C alone. Each block is folded in sequence (C > 1) or by vector
// lanes (C = 1), and the results of the blocks are folded in the same way again, until one is left.
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

/// x[A,R,C] -> y[A,C], R >= 1
template <class Op, class T, class A>
void fold_axis(Context& ctx, const T* x, std::int64_t outer, std::int64_t length, std::int64_t columns,
               A* y) {
  const std::int64_t block = columns == 1 ? kRowBlock : block_rows(columns);
  const std::int64_t blocks = (length + block - 1) / block;
  if (blocks == 1) return fold_blocks<Op>(ctx, x, outer, length, columns, block, blocks, y);
  const Tensor partial = ctx.empty(Shape{outer, blocks, columns}, dtype_of<A>::value);
  fold_blocks<Op>(ctx, x, outer, length, columns, block, blocks, partial.data<A>());
  fold_axis<Op, A, A>(ctx, partial.data<A>(), outer, blocks, columns, y);
}

template <class Op>
void fold_with(Context& ctx, const Tensor& x, double divisor, const Tensor& y) {
  visit_floating(x.dtype(), "reduce", [&]<class T>() {
    using A = accumulator_t<T>;
    const bool rounds = y.dtype() != dtype_of<A>::value;
    const Tensor folded = rounds ? ctx.empty(y.shape(), dtype_of<A>::value) : y;
    A* const values = folded.data<A>();
    fold_axis<Op>(ctx, x.data<T>(), x.size(0), x.size(1), x.size(2), values);
    if (divisor != 1.0) {
      const A by = static_cast<A>(divisor);
      ctx.pool().parallel_ranges(y.numel(), kElementGrain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) values[i] /= by;
      });
    }
    if (rounds) kCopy.copy(ctx, folded, y);
  });
}

void fold(Context& ctx, FoldOp op, const Tensor& x, double divisor, const Tensor& y) {
  (op == FoldOp::max ? fold_with<Max> : fold_with<Sum>)(ctx, x, divisor, y);
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

constinit const ReduceBackend kReduce = {.fold = fold, .argmax = argmax};

}  // namespace llsa::kernels::cpu

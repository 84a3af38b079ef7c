// Walking several strided tensors of one shape together.
//
// The axes are sorted so that operand 0, the destination, is walked in the order of memory, and neighbouring axes are
// merged where all operands allow it. The two innermost of the remaining axes form two-dimensional blocks, on which
// the body runs plain double loops. Work is cut by shape and strides only.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>
#include <vector>

#include "../../core/context.h"

namespace llsa::kernels::cpu {

/// Elementwise work on fewer elements than this is not worth another thread.
constexpr std::int64_t kElementGrain = 16384;

template <std::size_t P>
struct StridedLoop {
  using Offsets = std::array<std::int64_t, P>;

  /// rows x cols elements from these offsets.
  struct Block {
    Offsets offset;
    std::int64_t rows, cols;
  };

  std::int64_t rows = 1, cols = 1;
  Offsets row_stride{}, col_stride{};
  std::vector<std::int64_t> outer;  // extents of the other axes
  std::vector<Offsets> outer_stride;

  /// Every operand has this shape.
  StridedLoop(const Shape& shape, const std::array<const Tensor*, P>& operands) {
    struct Axis {
      std::int64_t extent;
      Offsets stride;
    };
    std::vector<Axis> axes;
    for (int i = 0; i < shape.rank(); ++i) {
      if (shape[i] == 1) continue;
      Axis axis{shape[i], {}};
      for (std::size_t p = 0; p < P; ++p) axis.stride[p] = operands[p]->stride(i);
      axes.push_back(axis);
    }
    std::stable_sort(axes.begin(), axes.end(),
                     [](const Axis& a, const Axis& b) { return a.stride[0] > b.stride[0]; });
    std::vector<Axis> merged;
    for (const Axis& axis : axes) {
      bool fits = !merged.empty();
      for (std::size_t p = 0; fits && p < P; ++p)
        fits = merged.back().stride[p] == axis.extent * axis.stride[p];
      if (fits) {
        merged.back().extent *= axis.extent;
        merged.back().stride = axis.stride;
      } else {
        merged.push_back(axis);
      }
    }
    if (!merged.empty()) {
      cols = merged.back().extent;
      col_stride = merged.back().stride;
      merged.pop_back();
    }
    if (!merged.empty()) {
      // The rows: the axis in which the last operand is walked fastest if that is not the columns, else the
      // next one.
      std::size_t chosen = merged.size() - 1;
      if (col_stride[P - 1] > 1) {
        for (std::size_t i = 0; i < merged.size(); ++i) {
          if (merged[i].stride[P - 1] != 0 && merged[i].stride[P - 1] < merged[chosen].stride[P - 1])
            chosen = i;
        }
      }
      rows = merged[chosen].extent;
      row_stride = merged[chosen].stride;
      merged.erase(merged.begin() + static_cast<std::ptrdiff_t>(chosen));
    }
    for (const Axis& axis : merged) {
      outer.push_back(axis.extent);
      outer_stride.push_back(axis.stride);
    }
  }

  /// Calls body(block) for blocks that cover every element once.
  template <class Body>
  void run(Context& ctx, Body&& body) const {
    const std::int64_t outer_count =
        std::accumulate(outer.begin(), outer.end(), std::int64_t{1}, std::multiplies<>());
    if (outer_count * rows * cols == 0) return;
    // Where the last operand is walked down its columns, blocks use its cache lines whole.
    const std::int64_t fewest_rows =
        std::min<std::int64_t>(rows, row_stride[P - 1] == 1 && col_stride[P - 1] > 1 ? 64 : 1);
    const std::int64_t col_step = std::min(cols, kElementGrain / std::max<std::int64_t>(fewest_rows, 1));
    const std::int64_t row_step = std::min(rows, std::max<std::int64_t>(1, kElementGrain / col_step));
    const std::int64_t col_blocks = (cols + col_step - 1) / col_step;
    const std::int64_t row_blocks = (rows + row_step - 1) / row_step;
    const std::int64_t grain = std::max<std::int64_t>(1, kElementGrain / (row_step * col_step));
    ctx.pool().parallel_ranges(
        outer_count * row_blocks * col_blocks, grain, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t i = begin; i < end; ++i) {
            const std::int64_t col = i % col_blocks * col_step;
            const std::int64_t row = i / col_blocks % row_blocks * row_step;
            std::int64_t rest = i / col_blocks / row_blocks;
            Block block{{}, std::min(row_step, rows - row), std::min(col_step, cols - col)};
            for (std::size_t p = 0; p < P; ++p) block.offset[p] = row * row_stride[p] + col * col_stride[p];
            for (std::size_t axis = outer.size(); axis-- > 0; rest /= outer[axis]) {
              const std::int64_t index = rest % outer[axis];
              for (std::size_t p = 0; p < P; ++p) block.offset[p] += index * outer_stride[axis][p];
            }
            body(block);
          }
        });
  }
};

}  // namespace llsa::kernels::cpu

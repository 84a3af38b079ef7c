// Walking several strided tensors of one shape together. Neighbouring axes are merged where all tensors allow it;
// a kernel then turns the number of an element into one offset per tensor.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "../../../core/tensor.h"

namespace llsa::kernels::cuda {

constexpr int kMaxAxes = 8;  // after merging

/// P tensors of one shape. Elements are numbered in the order in which tensor 0 lies in memory.
template <int P>
struct Strided {
  int rank = 0;
  std::int64_t count = 1;
  std::int64_t extent[kMaxAxes] = {};  // from the fastest axis on
  std::int64_t stride[P][kMaxAxes] = {};

  Strided(const Shape& shape, const std::array<const Tensor*, P>& tensors) {
    std::vector<int> axes;
    for (int i = 0; i < shape.rank(); ++i)
      if (shape[i] != 1) axes.push_back(i);
    std::stable_sort(axes.begin(), axes.end(),
                     [&](int a, int b) { return tensors[0]->stride(a) > tensors[0]->stride(b); });
    count = shape.numel();
    for (std::size_t at = axes.size(); at-- > 0;) {
      const int axis = axes[at];
      bool fits = rank > 0;
      for (int p = 0; fits && p < P; ++p)
        fits = tensors[static_cast<std::size_t>(p)]->stride(axis) == stride[p][rank - 1] * extent[rank - 1];
      if (fits) {
        extent[rank - 1] *= shape[axis];
        continue;
      }
      if (rank == kMaxAxes)
        throw ShapeError(cat("[cuda] ", shape, " has more than ", kMaxAxes, " axes that cannot be merged"),
                         "make the tensors contiguous first");
      extent[rank] = shape[axis];
      for (int p = 0; p < P; ++p) stride[p][rank] = tensors[static_cast<std::size_t>(p)]->stride(axis);
      ++rank;
    }
  }

  /// All tensors lie in memory without gaps, in the same order.
  bool dense() const {
    if (rank > 1) return false;
    for (int p = 0; p < P && rank == 1; ++p)
      if (stride[p][0] != 1) return false;
    return true;
  }

  struct Offsets {
    std::int64_t of[P];
  };
  /// Nearly all of the cost is division, and a division of 32 bits is several times cheaper than one of 64.
  __device__ Offsets offsets(std::int64_t index) const {
    return count <= 0x7fffffff ? split(static_cast<std::uint32_t>(index))
                               : split(static_cast<std::uint64_t>(index));
  }

 private:
  template <class I>
  __device__ Offsets split(I index) const {
    Offsets out = {};
    for (int axis = 0; axis < rank; ++axis) {
      const I size = static_cast<I>(extent[axis]);
      const I next = axis + 1 < rank ? index / size : 0;
      const std::int64_t at = static_cast<std::int64_t>(index - next * size);
      for (int p = 0; p < P; ++p) out.of[p] += at * stride[p][axis];
      index = next;
    }
    return out;
  }
};

}  // namespace llsa::kernels::cuda

// For tests of kernels: reproducible values, and the same computation with 1, 2 and 3 threads.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include "core/philox.h"
#include "tests/support/tensors.h"

namespace llsa::test {

/// Normal values times `scale`, rounded to the dtype; another `stream`, other values.
inline Tensor normal(Context& ctx, const Shape& shape, DType dtype, std::uint64_t stream,
                     double scale = 1.0) {
  const Philox philox{42, stream};
  std::vector<double> values(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = scale * static_cast<double>(philox.normal(i));
  return kernels::cast(ctx, kernels::from_vector(ctx, values, shape), dtype);
}

/// The same values with the two last axes the other way round in memory.
inline Tensor with_swapped_strides(Context& ctx, const Tensor& x) {
  return kernels::clone(ctx, x.transpose(-2, -1)).transpose(-2, -1);
}

/// The same values with gaps between the elements of the last axis.
inline Tensor with_gaps(Context& ctx, const Tensor& x) {
  std::vector<std::int64_t> extents = x.shape().extents();
  extents.back() *= 2;
  const Tensor wide = ctx.zeros(Shape(extents), x.dtype());
  const Tensor view = wide.slice(-1, 0, extents.back(), 2);
  kernels::copy(ctx, x, view);
  return view;
}

/// Runs make(ctx), which gives a list of tensors, with 1, 2 and 3 threads and compares bits.
template <class Make>
void check_threads(Make&& make) {
  Context one(1);
  const std::vector<Tensor> expected = make(one);
  for (const int threads : {2, 3}) {
    Context ctx(threads);
    const std::vector<Tensor> got = make(ctx);
    REQUIRE(got.size() == expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      CAPTURE(threads);
      CAPTURE(i);
      CHECK(same_bits(ctx, got[i], expected[i]));
    }
  }
}

}  // namespace llsa::test

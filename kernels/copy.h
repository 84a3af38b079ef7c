// Copies: layout, dtype, concatenation, and the way between tensors and std::vector.
#pragma once

#include <vector>

#include "../core/context.h"

namespace llsa::kernels {

/// x itself if it is contiguous, else a contiguous copy.
Tensor contiguous(Context& ctx, const Tensor& x);
/// x itself if its last axis has unit stride (the others any), else a contiguous copy; x has at least one
/// axis.
Tensor with_unit_last_stride(Context& ctx, const Tensor& x);
/// A new contiguous tensor with x's elements.
Tensor clone(Context& ctx, const Tensor& x);
/// dst = src, broadcast to dst's shape and converted to its dtype; both with any strides. float to integer
/// truncates and saturates (NaN gives 0); the ranges may not overlap. Throws ShapeError when src does not
/// broadcast to dst.
void copy(Context& ctx, const Tensor& src, const Tensor& dst);
/// x itself if it has that dtype, else a contiguous converted copy.
Tensor cast(Context& ctx, const Tensor& x, DType dtype);
/// Every element of x, any strides, becomes the value.
void fill(Context& ctx, const Tensor& x, double value);
/// Joins tensors of one dtype along an axis; the other extents agree. Throws ShapeError, DTypeError,
/// ValueError for no tensors.
Tensor concat(Context& ctx, const std::vector<Tensor>& parts, int axis);

/// Copies between dense host memory and a tensor of any strides on any device; from_vector and to_vector use them.
void copy_from_host(Context& ctx, const void* host, const Tensor& dst);
void copy_to_host(Context& ctx, const Tensor& src, void* host);

/// x, which belongs to `from`, for another context: x itself if both are on the CPU or use one stream, else a
/// contiguous copy. The host waits when the copy leaves a device. Between two contexts of one device the streams wait
/// for each other.
Tensor transfer(Context& from, const Tensor& x, Context& to);

/// A tensor with the vector's elements. Throws ShapeError when the sizes differ.
template <class X>
Tensor from_vector(Context& ctx, const std::vector<X>& values, const Shape& shape) {
  if (static_cast<std::int64_t>(values.size()) != shape.numel())
    throw ShapeError(
        cat("[from_vector] shape ", shape, " has ", shape.numel(), " elements, got ", values.size()));
  Tensor out = ctx.empty(shape, dtype_of<X>::value);
  copy_from_host(ctx, values.data(), out);
  return out;
}

/// The elements in row-major order, converted to X.
template <class X>
std::vector<X> to_vector(Context& ctx, const Tensor& x) {
  const Tensor source = contiguous(ctx, cast(ctx, x, dtype_of<X>::value));
  std::vector<X> values(static_cast<std::size_t>(source.numel()));
  copy_to_host(ctx, source, values.data());
  return values;
}

}  // namespace llsa::kernels

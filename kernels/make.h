// New tensors with given values: constants, counted and random numbers, a std::vector, another device's tensor.
//
// Random numbers come from Philox (core/philox.h): element j depends on (seed, stream, j) alone, not on threads or devices. Give
// each purpose a stream of its own, so that two tensors of one seed do not hold the same numbers.
#pragma once

#include "copy.h"

namespace llsa {

/// Contiguous, on the context's device. Shapes are written as lists: zeros(ctx, {2, 3}).
Tensor zeros(Context& ctx, const Shape& shape, DType dtype = DType::f32);
Tensor ones(Context& ctx, const Shape& shape, DType dtype = DType::f32);
Tensor full(Context& ctx, const Shape& shape, double value, DType dtype = DType::f32);

/// begin, begin + step, ... below end (above it for a negative step), as one axis. Throws ValueError for a step of 0 and for
/// numbers that are not finite.
Tensor arange(Context& ctx, double begin, double end, double step = 1.0, DType dtype = DType::f32);

/// Standard normal. Throws DTypeError unless floating.
Tensor randn(Context& ctx, const Shape& shape, std::uint64_t seed, std::uint64_t stream = 0,
             DType dtype = DType::f32);
/// Uniform in [0, 1), 24 bits. Throws DTypeError unless floating (bf16 rounds and may give 1).
Tensor rand(Context& ctx, const Shape& shape, std::uint64_t seed, std::uint64_t stream = 0,
            DType dtype = DType::f32);
/// Uniform integers in [low, high), drawn on the host. Throws ValueError unless low < high, at most 2^32 - 1 apart.
Tensor randint(Context& ctx, const Shape& shape, std::int64_t low, std::int64_t high, std::uint64_t seed,
               std::uint64_t stream = 0, DType dtype = DType::i32);

/// x, on the context's device, as a tensor on the CPU, which waits for the device; and x, a tensor on the CPU, on the
/// context's device. For a context on the CPU both are x itself. Throw DeviceError for an x that lies elsewhere.
Tensor to_host(Context& ctx, const Tensor& x);
Tensor from_host(Context& ctx, const Tensor& x);

/// clone(ctx, x): a copy with elements of its own. from_vector(ctx, values, {2, 3}): a tensor with the elements of a vector, and
/// back. to_vector<float>(ctx, tensor) waits for the device.
using kernels::clone;
using kernels::from_vector;
using kernels::to_vector;

}  // namespace llsa

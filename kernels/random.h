// Random tensors from Philox (core/philox.h): element j is a function of (seed, stream, j) alone.
//
// `stream` says what the numbers are for (one constant per purpose). The *_samples functions draw row i for the sample
// with global number sample_ids[i]: its element j is element j of stream `sample_stream(stream, id)`. So the numbers of
// a sample depend neither on its batch, nor on its place there, nor on the number of processes or threads.
//
// f32, bf16 (rounded from the f32 value) and f64 (the f32 value): the same numbers in every dtype.
#pragma once

#include "../core/context.h"

namespace llsa::kernels {

/// Philox stream of a sample: the purpose's stream, its bits mixed with the sample's number.
std::uint64_t sample_stream(std::uint64_t stream, std::int64_t sample_id);

/// Uniform in [0, 1), 24 bits. Throws DTypeError unless floating (bf16 rounds and may give 1).
Tensor random_uniform(Context& ctx, const Shape& shape, DType dtype, std::uint64_t seed,
                      std::uint64_t stream);
/// Standard normal.
Tensor random_normal(Context& ctx, const Shape& shape, DType dtype, std::uint64_t seed, std::uint64_t stream);

/// shape [b,...], sample_ids i64 [b]; row i depends on (seed, stream, sample_ids[i]). Throws ShapeError,
/// DTypeError.
Tensor random_uniform_samples(Context& ctx, const Shape& shape, DType dtype, std::uint64_t seed,
                              std::uint64_t stream, const Tensor& sample_ids);
Tensor random_normal_samples(Context& ctx, const Shape& shape, DType dtype, std::uint64_t seed,
                             std::uint64_t stream, const Tensor& sample_ids);

}  // namespace llsa::kernels

#include "kernels/make.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/philox.h"
#include "kernels/random.h"

namespace llsa {
namespace {

constexpr std::int64_t kGrain = 4096;  // numbers per chunk
constexpr double kMaxExact = 0x1p53;   // up to here every integer is a double

/// A tensor whose element i is value(i) converted to the dtype. The values are computed by the host's threads.
template <class Value>
Tensor from_host_values(Context& ctx, const Shape& shape, DType dtype, const Value& value) {
  Tensor out = ctx.empty(shape, dtype);
  visit_any(dtype, [&]<class T>() {
    std::vector<T> values(static_cast<std::size_t>(shape.numel()));
    ctx.pool().parallel_ranges(shape.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        values[static_cast<std::size_t>(i)] = static_cast<T>(value(i));
    });
    kernels::copy_from_host(ctx, values.data(), out);
  });
  return out;
}

}  // namespace

Tensor zeros(Context& ctx, const Shape& shape, DType dtype) { return ctx.zeros(shape, dtype); }

Tensor ones(Context& ctx, const Shape& shape, DType dtype) { return full(ctx, shape, 1.0, dtype); }

Tensor full(Context& ctx, const Shape& shape, double value, DType dtype) {
  Tensor out = ctx.empty(shape, dtype);
  kernels::fill(ctx, out, value);
  return out;
}

Tensor arange(Context& ctx, double begin, double end, double step, DType dtype) {
  const double count = std::ceil((end - begin) / step);
  if (!(std::abs(count) < 0x1p60))
    throw ValueError(cat("[arange] expected finite numbers and a step other than 0, got ", begin, " to ", end,
                         " by ", step));
  const Shape shape{static_cast<std::int64_t>(std::max(count, 0.0))};
  const auto value = [&](std::int64_t i) { return begin + static_cast<double>(i) * step; };
  if (is_floating(dtype)) return from_host_values(ctx, shape, dtype, value);
  if (!(std::max(std::abs(begin), std::abs(end)) <= kMaxExact))
    throw ValueError(cat("[arange] expected integers of at most 2^53, got ", begin, " to ", end));
  return from_host_values(ctx, shape, dtype,
                          [&](std::int64_t i) { return static_cast<std::int64_t>(value(i)); });
}

Tensor randn(Context& ctx, const Shape& shape, std::uint64_t seed, std::uint64_t stream, DType dtype) {
  return kernels::random_normal(ctx, shape, dtype, seed, stream);
}

Tensor rand(Context& ctx, const Shape& shape, std::uint64_t seed, std::uint64_t stream, DType dtype) {
  return kernels::random_uniform(ctx, shape, dtype, seed, stream);
}

Tensor randint(Context& ctx, const Shape& shape, std::int64_t low, std::int64_t high, std::uint64_t seed,
               std::uint64_t stream, DType dtype) {
  const std::uint64_t count = static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low);
  if (low >= high || count > std::numeric_limits<std::uint32_t>::max())
    throw ValueError(cat("[randint] expected low < high, at most 2^32 - 1 apart, got ", low, " and ", high));
  const Philox philox{seed, stream};
  return from_host_values(ctx, shape, dtype, [&](std::int64_t i) {
    return low + static_cast<std::int64_t>(
                     philox.below(static_cast<std::uint64_t>(i), static_cast<std::uint32_t>(count)));
  });
}

Tensor to_host(Context& ctx, const Tensor& x) {
  if (ctx.device().is_cpu()) return x;
  Context host(1);
  return kernels::transfer(ctx, x, host);
}

Tensor from_host(Context& ctx, const Tensor& x) {
  if (ctx.device().is_cpu()) return x;
  Context host(1);
  return kernels::transfer(host, x, ctx);
}

}  // namespace llsa

// Initial values from Philox numbers.
#include "nn/init.h"

#include <cmath>

#include "core/hash.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/random.h"

namespace llsa::nn {

Init Init::for_fans(std::int64_t fan_in, std::int64_t fan_out) const {
  switch (law) {
    case Law::fan_in:
      return uniform(1.0 / std::sqrt(static_cast<double>(fan_in)));
    case Law::xavier:
      return uniform(std::sqrt(6.0 / static_cast<double>(fan_in + fan_out)));
    default:
      return *this;
  }
}

std::uint64_t name_stream(std::string_view name) {
  Fnv1a hash;
  hash.add(name);
  return hash.value();
}

void initialize(Context& ctx, const Tensor& values, const Init& init, std::uint64_t seed,
                std::string_view name) {
  const std::uint64_t stream = name_stream(name);
  switch (init.law) {
    case Init::Law::constant:
      kernels::fill(ctx, values, init.value);
      return;
    case Init::Law::uniform: {
      const Tensor draw = kernels::random_uniform(ctx, values.shape(), values.dtype(), seed, stream);
      kernels::copy(ctx, kernels::affine(ctx, draw, 2.0 * init.value, -init.value), values);
      return;
    }
    case Init::Law::normal: {
      const Tensor draw = kernels::random_normal(ctx, values.shape(), values.dtype(), seed, stream);
      kernels::copy(ctx, kernels::affine(ctx, draw, init.value, 0.0), values);
      return;
    }
    case Init::Law::fan_in:
    case Init::Law::xavier:
      throw ValueError(cat("[initialize] the law of \"", name, "\" depends on the sizes of its layer"),
                       "apply Init::for_fans first");
  }
}

}  // namespace llsa::nn

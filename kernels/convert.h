// Conversions between dtypes, as copies make them on every device.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

namespace llsa::kernels {

/// The value as a D: rounded to nearest between floating types, truncated towards zero into integers, limited
/// to the range of D; NaN gives 0 in integers. Bf16 is the device's type of that name.
template <class D, class Bf16, class S>
constexpr D convert(S value) {
  if constexpr (std::is_same_v<D, S>) {
    return value;
  } else if constexpr (std::is_same_v<S, Bf16>) {
    return convert<D, Bf16>(static_cast<float>(value));
  } else if constexpr (std::is_same_v<D, Bf16>) {
    return Bf16(static_cast<float>(value));
  } else if constexpr (std::is_floating_point_v<D>) {
    return static_cast<D>(value);
  } else if constexpr (std::is_floating_point_v<S>) {
    // 2^digits is the first value above the range and is exact in S.
    constexpr S kEnd = static_cast<S>(std::uint64_t{1} << (std::numeric_limits<D>::digits - 1)) * S{2};
    if (value != value) return 0;
    if (value >= kEnd) return std::numeric_limits<D>::max();
    if (value <= static_cast<S>(std::numeric_limits<D>::min())) return std::numeric_limits<D>::min();
    return static_cast<D>(value);
  } else {
    if (std::cmp_greater(value, std::numeric_limits<D>::max())) return std::numeric_limits<D>::max();
    if (std::cmp_less(value, std::numeric_limits<D>::min())) return std::numeric_limits<D>::min();
    return static_cast<D>(value);
  }
}

}  // namespace llsa::kernels

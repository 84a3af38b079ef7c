// The sizes that caching allocators hand out: multiples of 64 bytes up to 4 KiB, then eight classes per power
// of two (at most 12.5 % more than asked).
#pragma once

#include <bit>
#include <cstddef>

namespace llsa {

struct SizeClass {
  std::size_t index;
  std::size_t bytes;

  static constexpr std::size_t kAlignment = 64;
  static constexpr std::size_t kSmall = 4096;
  static constexpr int kSmallBits = 12;
  static constexpr std::size_t kMaxBytes = std::size_t{1} << 62;
  static constexpr std::size_t kCount = kSmall / kAlignment + 1 + 8 * (62 - kSmallBits);

  /// The class for 1 <= bytes <= kMaxBytes.
  static SizeClass of(std::size_t bytes) {
    if (bytes <= kSmall) {
      const std::size_t index = (bytes + kAlignment - 1) / kAlignment;
      return {index, index * kAlignment};
    }
    const int power = static_cast<int>(std::bit_width(bytes - 1)) - 1;  // 2^power < bytes <= 2^(power + 1)
    const std::size_t step = std::size_t{1} << (power - 3);
    const std::size_t steps = (bytes + step - 1) / step;  // 9..16
    const auto octave = static_cast<std::size_t>(power - kSmallBits);
    return {kSmall / kAlignment + octave * 8 + (steps - 8), steps * step};
  }
  /// The bytes of a class, from its index.
  static constexpr std::size_t bytes_of(std::size_t index) {
    constexpr std::size_t kLinear = kSmall / kAlignment;
    if (index <= kLinear) return index * kAlignment;
    const std::size_t place = index - kLinear - 1;
    return (place % 8 + 9) << (place / 8 + kSmallBits - 3);
  }
};

}  // namespace llsa

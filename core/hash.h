// FNV-1a: a small hash of 64 bits that is the same on every machine. It gives no protection
// against inputs that were made to have equal hashes.
#pragma once

#include <cstdint>
#include <string_view>

namespace llsa {

class Fnv1a {
 public:
  void add(std::uint8_t byte) { value_ = (value_ ^ byte) * 0x100000001b3u; }
  void add(std::string_view bytes) {
    for (const char c : bytes) add(static_cast<std::uint8_t>(c));
  }
  /// Adds a number as eight bytes, the lowest first.
  void add_word(std::uint64_t word) {
    for (int shift = 0; shift < 64; shift += 8) add(static_cast<std::uint8_t>(word >> shift));
  }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325u;
};

}  // namespace llsa

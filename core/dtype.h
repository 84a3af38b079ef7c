// Element types, and bfloat16 as a storage type (arithmetic is done in float).
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

#include "error.h"

namespace llsa {

enum class DType : std::uint8_t { f32, bf16, f64, i32, i64, u8 };

/// Upper 16 bits of an IEEE binary32. Conversion from float rounds to nearest even and keeps NaN a NaN.
struct bf16 {
  std::uint16_t bits = 0;

  bf16() = default;
  explicit bf16(float value) : bits(round(value)) {}
  /// Loops store sums by this: compilers vectorise it, unlike the copy of a whole bf16.
  bf16& operator=(float value) {
    bits = round(value);
    return *this;
  }
  operator float() const {
    const std::uint32_t u = static_cast<std::uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &u, sizeof value);
    return value;
  }

 private:
  static std::uint16_t round(float value) {
    std::uint32_t u;
    std::memcpy(&u, &value, sizeof u);
    const bool is_nan = (u & 0x7fffffffu) > 0x7f800000u;
    return is_nan ? static_cast<std::uint16_t>((u >> 16) | 0x40u)
                  : static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
};

/// Bytes of one element.
constexpr std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return 4;
    case DType::bf16:
      return 2;
    case DType::f64:
      return 8;
    case DType::i32:
      return 4;
    case DType::i64:
      return 8;
    case DType::u8:
      return 1;
  }
  return 0;
}

/// "f32", "bf16", "f64", "i32", "i64", "u8".
constexpr std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::bf16:
      return "bf16";
    case DType::f64:
      return "f64";
    case DType::i32:
      return "i32";
    case DType::i64:
      return "i64";
    case DType::u8:
      return "u8";
  }
  return "?";
}

/// Inverse of name_of. Throws ValueError for any other text.
DType dtype_from_name(std::string_view name);

constexpr bool is_floating(DType dtype) {
  return dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f64;
}

template <class T>
struct dtype_of;
template <>
struct dtype_of<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct dtype_of<bf16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct dtype_of<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct dtype_of<std::int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct dtype_of<std::int64_t> {
  static constexpr DType value = DType::i64;
};
template <>
struct dtype_of<std::uint8_t> {
  static constexpr DType value = DType::u8;
};

/// The type in which values stored as T are summed: double for double, float for float and bf16.
template <class T>
struct accumulator {
  using type = float;
};
template <>
struct accumulator<double> {
  using type = double;
};
template <class T>
using accumulator_t = typename accumulator<T>::type;

/// Calls f.template operator()<T>() with the C++ type of a floating dtype. Throws DTypeError, named by
/// `where`, otherwise.
template <class F>
decltype(auto) visit_floating(DType dtype, const char* where, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f.template operator()<float>();
    case DType::bf16:
      return f.template operator()<bf16>();
    case DType::f64:
      return f.template operator()<double>();
    default:
      break;
  }
  throw DTypeError(cat("[", where, "] takes f32, bf16 or f64, got ", name_of(dtype)));
}

/// Calls f.template operator()<T>() with the C++ type of any dtype.
template <class F>
decltype(auto) visit_any(DType dtype, F&& f) {
  switch (dtype) {
    case DType::bf16:
      return f.template operator()<bf16>();
    case DType::f64:
      return f.template operator()<double>();
    case DType::i32:
      return f.template operator()<std::int32_t>();
    case DType::i64:
      return f.template operator()<std::int64_t>();
    case DType::u8:
      return f.template operator()<std::uint8_t>();
    case DType::f32:
      break;
  }
  return f.template operator()<float>();
}

}  // namespace llsa

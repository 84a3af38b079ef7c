// Elementary functions of float that compilers vectorise: straight-line code, no table, no branch, no call.
//
// They are for the body of a `#pragma omp simd` loop. Every function is right for all inputs (infinities, NaN, zeros,
// denormals in and out) without -ffast-math, and within 2.5 units in the last place of the true value
// (tests/kernels/vec_math_test.cpp measures that on dense sweeps). Selections work on bits, so that no compiler turns
// them into branches. The polynomials are minimax fits made for this file. The overloads for double call the standard
// library.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace llsa::kernels::cpu {

namespace vec {

inline std::uint32_t bits(float x) { return std::bit_cast<std::uint32_t>(x); }
inline float from_bits(std::uint32_t u) { return std::bit_cast<float>(u); }

/// condition ? a : b without a branch.
inline float select(bool condition, float a, float b) {
  const std::uint32_t mask = 0u - static_cast<std::uint32_t>(condition);
  return from_bits((bits(a) & mask) | (bits(b) & ~mask));
}

inline float abs(float x) { return from_bits(bits(x) & 0x7fffffffu); }

/// |magnitude| with the sign of `sign`.
inline float copy_sign(float magnitude, float sign) {
  return from_bits((bits(magnitude) & 0x7fffffffu) | (bits(sign) & 0x80000000u));
}

/// x limited to [low, high]; NaN stays NaN.
inline float clamp(float x, float low, float high) {
  x = select(x < low, low, x);
  return select(x > high, high, x);
}

constexpr float kLog2e = 1.44269504f;
constexpr float kLn2High = 0.693145752f;   // 16 significant bits: n * kLn2High is exact for |n| < 256
constexpr float kLn2Low = 1.42860677e-6f;  // ln 2 - kLn2High
constexpr float kRoundMagic =
    12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, kept in the low bits

/// e^x = result * 2^n with n = round(x / ln 2) as a two's complement integer, for |x| < 128.
inline float exp_parts(float x, std::uint32_t& n) {
  const float shifted = x * kLog2e + kRoundMagic;
  n = bits(shifted) - bits(kRoundMagic);
  const float k = shifted - kRoundMagic;
  const float r = (x - k * kLn2High) - k * kLn2Low;
  float p = 0.001381448061f;
  p = p * r + 0.008368780211f;
  p = p * r + 0.04166839394f;
  p = p * r + 0.1666652011f;
  p = p * r + 0.4999999341f;
  return (p * (r * r) + r) + 1.0f;
}

/// 2^n for n in [-126, 127].
inline float power_of_two(std::uint32_t n) { return from_bits((n + 127u) << 23); }

}  // namespace vec

/// e^x, with gradual underflow and overflow to infinity.
inline float exp(float x) {
  // Beyond these limits the result is 0 or infinity whatever x is; 2^n is applied in two halves, each a
  // normal number.
  x = vec::clamp(x, -104.0f, 89.0f);
  std::uint32_t n;
  const float p = vec::exp_parts(x, n);
  const auto half = static_cast<std::uint32_t>(static_cast<std::int32_t>(n) >> 1);
  return p * vec::power_of_two(half) * vec::power_of_two(n - half);
}
inline double exp(double x) { return std::exp(x); }

/// e^x for x <= 88 (NaN above); 0 below -87.3, where e^x leaves the normal numbers. Cheaper than exp, for
/// softmax and attention, where x = score - maximum <= 0. NaN stays NaN.
inline float exp_flush(float x) {
  std::uint32_t n;
  const float p = vec::exp_parts(vec::select(x < -87.3f, -87.3f, x), n);
  return vec::select(x < -87.3f, 0.0f, p * vec::power_of_two(n));
}
inline double exp_flush(double x) { return std::exp(x); }

/// Natural logarithm; -infinity at 0, NaN below.
inline float log(float x) {
  // x = m 2^e with m in [sqrt(1/2), sqrt(2)); ln m = 2 artanh(s), s = (m - 1) / (m + 1), rearranged as
  // f - f^2/2 + s (f^2/2 + r) with f = m - 1, so that the leading terms are exact; r = 2/3 s^2 + 2/5 s^4 +
  // ...
  const bool tiny = x < 1.17549435e-38f;
  const float y = vec::select(tiny, x * 8388608.0f, x);
  constexpr std::uint32_t kSqrtHalf = 0x3f3504f3u;
  const std::uint32_t u = vec::bits(y) - kSqrtHalf;
  const float m = vec::from_bits((u & 0x007fffffu) + kSqrtHalf);
  const float e = static_cast<float>(static_cast<std::int32_t>(u) >> 23) - vec::select(tiny, 23.0f, 0.0f);
  const float f = m - 1.0f;
  const float s = f / (f + 2.0f);
  const float z = s * s;
  float r = 0.2222222222f;
  r = r * z + 0.2857142857f;
  r = r * z + 0.4f;
  r = r * z + 0.6666666667f;
  r = r * z;
  const float half_square = 0.5f * f * f;
  const float low = s * (half_square + r) + e * vec::kLn2Low;
  float result = ((low - half_square) + f) + e * vec::kLn2High;
  result = vec::select(x == 0.0f, -std::numeric_limits<float>::infinity(), result);
  result = vec::select(x < 0.0f, std::numeric_limits<float>::quiet_NaN(), result);
  return vec::select(vec::bits(vec::abs(x)) >= 0x7f800000u && !(x < 0.0f), x, result);  // infinity, NaN
}
inline double log(double x) { return std::log(x); }

/// Hyperbolic tangent.
inline float tanh(float x) {
  // |x| < 0.625: odd polynomial. Else 1 - 2 / (e^{2|x|} + 1), which is 1 in float from 9.02 on.
  const float a = vec::abs(x);
  const float u = x * x;
  float p = -0.005704992269f;
  p = p * u + 0.02063909346f;
  p = p * u - 0.05373971765f;
  p = p * u + 0.1333144224f;
  p = p * u - 0.3333328194f;
  const float small = (p * u) * a + a;
  std::uint32_t n;
  const float scaled = vec::exp_parts(2.0f * vec::select(a > 10.0f, 10.0f, a), n);
  const float large = 1.0f - 2.0f / (scaled * vec::power_of_two(n) + 1.0f);
  return vec::copy_sign(vec::select(a < 0.625f, small, large), x);
}
inline double tanh(double x) { return std::tanh(x); }

/// Logistic function 1 / (1 + e^-x), with full relative accuracy on both sides.
inline float sigmoid(float x) {
  const float e = exp(-vec::abs(x));
  return vec::select(x < 0.0f, e, 1.0f) / (1.0f + e);
}
inline double sigmoid(double x) {
  const double e = std::exp(-std::abs(x));
  return (x < 0 ? e : 1.0) / (1.0 + e);
}

/// Error function, 2 / sqrt(pi) times the integral of e^{-t^2} from 0 to x.
inline float erf(float x) {
  // |x| < 1: odd polynomial. Else 1 - e^{q(|x|)} with q a fit of ln(1 - erf), which is 1 in float from 4 on.
  const float a = vec::abs(x);
  const float u = x * x;
  float p = 7.853877532e-5f;
  p = p * u - 0.0008010198262f;
  p = p * u + 0.005188328186f;
  p = p * u - 0.02685381219f;
  p = p * u + 0.1128358515f;
  p = p * u - 0.3761262582f;
  p = p * u + 0.1283791657f;
  const float small = p * a + a;
  const float t = vec::select(a > 4.0f, 4.0f, a);
  float q = 0.000185572586f;
  q = q * t - 0.002939593061f;
  q = q * t + 0.02180526042f;
  q = q * t - 0.1030372464f;
  q = q * t - 0.6382258189f;
  q = q * t - 1.127039951f;
  q = q * t - 0.0003537402753f;
  std::uint32_t n;
  const float complement = vec::exp_parts(q, n);
  const float large = 1.0f - complement * vec::power_of_two(n);
  return vec::copy_sign(vec::select(a < 1.0f, small, large), x);
}
inline double erf(double x) { return std::erf(x); }

}  // namespace llsa::kernels::cpu

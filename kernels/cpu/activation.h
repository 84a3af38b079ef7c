// Activation functions and their derivatives, for the body of a `#pragma omp simd` loop; T is float or
// double.
//
// The arguments of derivatives are limited to where the derivative has reached its constant value, so that
// infinities give 0 or 1 instead of 0 * infinity. NaN stays NaN.
#pragma once

#include "vec_math.h"

namespace llsa::kernels::cpu {

inline float limit(float x, float low, float high) { return vec::clamp(x, low, high); }
inline double limit(double x, double low, double high) {
  x = x < low ? low : x;
  return x > high ? high : x;
}

template <class T>
inline T silu(T x) {
  return x * sigmoid(x);
}

/// s (1 + x (1 - s)), s = sigmoid(x)
template <class T>
inline T silu_derivative(T x) {
  x = limit(x, T(-800), T(800));
  return sigmoid(x) * (T(1) + x * sigmoid(-x));
}

namespace gelu {

constexpr double kCubic = 0.044715;
constexpr double kTwice = 1.5957691216057308;  // 2 sqrt(2 / pi)

/// Beyond +-9.5, (1 + tanh u) / 2 is 1 or below 1e-33; within, e^-2u is a normal float.
constexpr double kLimit = 9.5;

/// e^-2u with u = sqrt(2 / pi) (x + 0.044715 x^3), |x| <= kLimit: (1 + tanh u) / 2 = 1 / (1 + e^-2u).
inline float exp_minus_2u(float x) {
  std::uint32_t n;
  const float p =
      vec::exp_parts(x * (static_cast<float>(-kTwice) - static_cast<float>(kTwice * kCubic) * (x * x)), n);
  return p * vec::power_of_two(n);
}
inline double exp_minus_2u(double x) { return std::exp(x * (-kTwice - kTwice * kCubic * (x * x))); }

}  // namespace gelu

/// x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
template <class T>
inline T gelu_tanh(T x) {
  return x / (T(1) + gelu::exp_minus_2u(limit(x, T(-gelu::kLimit), T(gelu::kLimit))));
}

/// s + x 2u' s (1 - s), s = (1 + tanh u) / 2 and 1 - s = s e^-2u
template <class T>
inline T gelu_tanh_derivative(T x) {
  x = limit(x, T(-gelu::kLimit), T(gelu::kLimit));
  const T e = gelu::exp_minus_2u(x);
  const T s = T(1) / (T(1) + e);
  const T slope = T(gelu::kTwice) + T(3 * gelu::kTwice * gelu::kCubic) * (x * x);
  return s + (e * (x * slope)) * (s * s);
}

/// x / 2 (1 + erf(x / sqrt 2))
template <class T>
inline T gelu_erf(T x) {
  return T(0.5) * x * (T(1) + erf(x * T(0.70710678118654752)));
}

/// (1 + erf(x / sqrt 2)) / 2 + x e^(-x^2 / 2) / sqrt(2 pi)
template <class T>
inline T gelu_erf_derivative(T x) {
  x = limit(x, T(-40), T(40));
  return T(0.5) * (T(1) + erf(x * T(0.70710678118654752))) +
         x * T(0.39894228040143268) * exp(T(-0.5) * x * x);
}

}  // namespace llsa::kernels::cpu

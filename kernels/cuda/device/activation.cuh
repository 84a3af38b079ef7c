// Activation functions and their derivatives in kernels; T is float or double. The formulas are those of
// kernels/cpu/activation.h, with its limits: infinities give 0 or 1 where the derivative has reached that,
// and NaN stays NaN.
#pragma once

#include <cmath>

#include "../simt/simt.h"

namespace llsa::kernels::cuda {

template <class T>
__device__ T limit(T x, double low, double high) {
  x = x < T(low) ? T(low) : x;
  return x > T(high) ? T(high) : x;
}

/// 1 / (1 + e^-x)
template <class T>
__device__ T sigmoid(T x) {
  return T(1) / (T(1) + std::exp(-x));
}

/// x sigmoid(x)
template <class T>
__device__ T silu(T x) {
  return x * sigmoid(x);
}

/// s (1 + x (1 - s)), s = sigmoid(x)
template <class T>
__device__ T silu_derivative(T x) {
  x = limit(x, -80, 80);
  return sigmoid(x) * (T(1) + x * sigmoid(-x));
}

constexpr double kGeluCubic = 0.044715;
constexpr double kGeluTwice = 1.5957691216057308;  // 2 sqrt(2 / pi)

constexpr double kGeluLimit = 9.5;  // beyond it, (1 + tanh u) / 2 is 1 or below 1e-33

/// e^-2u with u = sqrt(2 / pi) (x + 0.044715 x^3), |x| <= kGeluLimit: (1 + tanh u) / 2 = 1 / (1 + e^-2u)
template <class T>
__device__ T gelu_exp_minus_2u(T x) {
  return std::exp(x * (T(-kGeluTwice) - T(kGeluTwice * kGeluCubic) * (x * x)));
}

/// x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
template <class T>
__device__ T gelu_tanh(T x) {
  return x / (T(1) + gelu_exp_minus_2u(limit(x, -kGeluLimit, kGeluLimit)));
}

/// s + x 2u' s (1 - s), s = (1 + tanh u) / 2 and 1 - s = s e^-2u
template <class T>
__device__ T gelu_tanh_derivative(T x) {
  x = limit(x, -kGeluLimit, kGeluLimit);
  const T e = gelu_exp_minus_2u(x);
  const T s = T(1) / (T(1) + e);
  const T slope = T(kGeluTwice) + T(3 * kGeluTwice * kGeluCubic) * (x * x);
  return s + (e * (x * slope)) * (s * s);
}

/// x / 2 (1 + erf(x / sqrt 2))
template <class T>
__device__ T gelu_erf(T x) {
  return T(0.5) * x * (T(1) + std::erf(x * T(0.70710678118654752)));
}

/// (1 + erf(x / sqrt 2)) / 2 + x e^(-x^2 / 2) / sqrt(2 pi)
template <class T>
__device__ T gelu_erf_derivative(T x) {
  x = limit(x, -40, 40);
  return T(0.5) * (T(1) + std::erf(x * T(0.70710678118654752))) +
         x * T(0.39894228040143268) * std::exp(T(-0.5) * x * x);
}

}  // namespace llsa::kernels::cuda

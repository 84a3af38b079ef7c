// Elementwise arithmetic with broadcasting, and activation functions.
//
// dL/dx is summed over the axes along which x was broadcast. Saved for backward is what the formulas name;
// f32, bf16 and f64, one dtype per call.
#pragma once

#include "var.h"

namespace llsa {

Var add(const Var& a, const Var& b);  ///< a + b; da = dy, db = dy; nothing saved
Var sub(const Var& a, const Var& b);  ///< a - b; da = dy, db = -dy; nothing saved
Var mul(const Var& a, const Var& b);  ///< a b; da = dy b, db = dy a; saves the factor of each wanted gradient
Var div(const Var& a,
        const Var& b);  ///< y = a / b; da = dy / b, db = -dy y / b; saves b, and y when db is wanted
Var affine(const Var& x, double scale, double shift);  ///< scale x + shift; dx = scale dy; nothing saved

Var exp(const Var& x);      ///< y = e^x; dx = dy y; saves y
Var log(const Var& x);      ///< ln x; dx = dy / x; saves x
Var sqrt(const Var& x);     ///< y = x^(1/2); dx = dy / (2 y); saves y
Var neg(const Var& x);      ///< -x; nothing saved
Var square(const Var& x);   ///< x^2; dx = 2 x dy; saves x
Var tanh(const Var& x);     ///< y; dx = dy (1 - y^2); saves y
Var sigmoid(const Var& x);  ///< y = 1 / (1 + e^-x); dx = dy y (1 - y); saves y
Var relu(const Var& x);     ///< max(x, 0); dx = dy where x > 0; saves x
Var silu(const Var& x);     ///< x s, s = sigmoid(x); dx = dy s (1 + x (1 - s)); saves x
/// x/2 (1 + tanh(u)), u = sqrt(2/pi) (x + 0.044715 x^3); saves x. Hendrycks and Gimpel, arXiv 1606.08415.
Var gelu_tanh(const Var& x);
/// x P(x), P the standard normal distribution function; dx = dy (P + x P'); saves x. The same paper.
Var gelu_erf(const Var& x);

inline Var operator+(const Var& a, const Var& b) { return add(a, b); }
inline Var operator-(const Var& a, const Var& b) { return sub(a, b); }
inline Var operator*(const Var& a, const Var& b) { return mul(a, b); }
inline Var operator/(const Var& a, const Var& b) { return div(a, b); }
inline Var operator-(const Var& x) { return neg(x); }
inline Var operator+(const Var& x, double shift) { return affine(x, 1.0, shift); }
inline Var operator-(const Var& x, double shift) { return affine(x, 1.0, -shift); }
inline Var operator*(const Var& x, double scale) { return affine(x, scale, 0.0); }
inline Var operator*(double scale, const Var& x) { return affine(x, scale, 0.0); }

}  // namespace llsa

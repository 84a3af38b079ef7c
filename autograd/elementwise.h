// Elementwise arithmetic with broadcasting, and activation functions.
//
// dL/dx is summed over the axes along which x was broadcast. f32, bf16 and f64, one dtype per call.
// Formulas, derivatives and what is saved for backward: kernels/elementwise_ops.h.
#pragma once

#include "../kernels/elementwise_ops.h"
#include "var.h"

namespace llsa {

// add(a, b) and so on, for every row of LLSA_BINARY_OPS. add and sub save nothing; mul saves the factor of
// each wanted gradient; div saves b, and y when db is wanted; maximum and minimum save a and b.
#define LLSA_DECLARE(name, ...) Var name(const Var& a, const Var& b);
LLSA_BINARY_OPS(LLSA_DECLARE)
#undef LLSA_DECLARE

// exp(x) and so on, for every row of LLSA_UNARY_OPS.
#define LLSA_DECLARE(name, ...) Var name(const Var& x);
LLSA_UNARY_OPS(LLSA_DECLARE)
#undef LLSA_DECLARE

// greater(a, b), a > b and so on, for every row of LLSA_COMPARISONS. A number is rounded to the dtype of the
// tensor that it is compared with.
#define LLSA_DECLARE(name, relation)                                              \
  Var name(const Var& a, const Var& b);                                           \
  Var name(const Var& a, double b);                                               \
  Var name(double a, const Var& b);                                               \
  inline Var operator relation(const Var& a, const Var& b) { return name(a, b); } \
  inline Var operator relation(const Var& a, double b) { return name(a, b); }     \
  inline Var operator relation(double a, const Var& b) { return name(a, b); }
LLSA_COMPARISONS(LLSA_DECLARE)
#undef LLSA_DECLARE

Var affine(const Var& x, double scale, double shift);  ///< scale x + shift; dx = scale dy; nothing saved

/// min(max(x, low), high), low <= high; dx = dy where low <= x <= high, else 0; saves x.
Var clamp(const Var& x, double low, double high);

/// a where the condition is not 0, else b, with broadcasting; da = dy where the condition is not 0, db = dy
/// elsewhere; saves the condition, which gets no gradient.
Var where(const Var& condition, const Var& a, const Var& b);

inline Var operator+(const Var& a, const Var& b) { return add(a, b); }
inline Var operator-(const Var& a, const Var& b) { return sub(a, b); }
inline Var operator*(const Var& a, const Var& b) { return mul(a, b); }
inline Var operator/(const Var& a, const Var& b) { return div(a, b); }
inline Var operator-(const Var& x) { return neg(x); }

inline Var operator+(const Var& x, double shift) { return affine(x, 1.0, shift); }
inline Var operator+(double shift, const Var& x) { return affine(x, 1.0, shift); }
inline Var operator-(const Var& x, double shift) { return affine(x, 1.0, -shift); }
inline Var operator-(double shift, const Var& x) { return affine(x, -1.0, shift); }
inline Var operator*(const Var& x, double scale) { return affine(x, scale, 0.0); }
inline Var operator*(double scale, const Var& x) { return affine(x, scale, 0.0); }
inline Var operator/(const Var& x, double divisor) { return affine(x, 1.0 / divisor, 0.0); }
Var operator/(double dividend, const Var& x);  ///< the dividend is rounded to x's dtype

}  // namespace llsa

// Elementwise arithmetic with broadcasting, and activation functions.
//
// dL/dx is summed over the axes along which x was broadcast. f32, bf16 and f64, one dtype per call.
// Formulas, derivatives and what is saved for backward: kernels/elementwise_ops.h.
#pragma once

#include "../kernels/elementwise_ops.h"
#include "var.h"

namespace llsa {

// add(a, b) and so on, for every row of LLSA_BINARY_OPS. add and sub save nothing; mul saves the factor of
// each wanted gradient; div saves b, and y when db is wanted.
#define LLSA_DECLARE(name, ...) Var name(const Var& a, const Var& b);
LLSA_BINARY_OPS(LLSA_DECLARE)
#undef LLSA_DECLARE

// exp(x) and so on, for every row of LLSA_UNARY_OPS.
#define LLSA_DECLARE(name, ...) Var name(const Var& x);
LLSA_UNARY_OPS(LLSA_DECLARE)
#undef LLSA_DECLARE

Var affine(const Var& x, double scale, double shift);  ///< scale x + shift; dx = scale dy; nothing saved

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

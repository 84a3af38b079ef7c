// The elementwise operations, one row each: name, formula, derivative.
//
// Made from the rows are the functions of kernels/elementwise.h and autograd/elementwise.h, the codes that a
// device gets, and the loops of both devices. By hand comes the row of the op table. A formula is computed in
// A, which is float for f32 and bf16 and double for f64; the functions that it calls are the device's own
// (kernels/cpu/activation.h, kernels/cuda/device/activation.cuh).
#pragma once

#include <cstdint>

// clang-format off

/// ROW(name, what backward needs: x, y or nothing, y = f(x), dx from dy and what is saved). A NaN that is saved
/// makes dx NaN.
///
///     sigmoid(x) = 1 / (1 + e^-x),  silu(x) = x sigmoid(x)
///     gelu_tanh(x) = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))  (Hendrycks and Gimpel, arXiv 1606.08415)
///     gelu_erf(x) = x/2 (1 + erf(x / sqrt 2))
#define LLSA_UNARY_OPS(ROW)                                                                 \
  ROW(exp,       y,       exp(x),            dy * y)                                        \
  ROW(log,       x,       log(x),            dy / x)                                        \
  ROW(sqrt,      y,       std::sqrt(x),      dy / (2 * y))                                  \
  ROW(neg,       nothing, -x,                -dy)                                           \
  ROW(abs,       x,       std::abs(x),       x > 0 ? dy : x < 0 ? -dy : x)                  \
  ROW(square,    x,       x * x,             2 * dy * x)                                    \
  ROW(tanh,      y,       tanh(x),           dy * (1 - y * y))                              \
  ROW(sigmoid,   y,       sigmoid(x),        dy * (y * (1 - y)))                            \
  ROW(relu,      x,       x < 0 ? A(0) : x,  x > 0 ? dy : x <= 0 ? A(0) : x)                \
  ROW(silu,      x,       silu(x),           dy * silu_derivative(x))                       \
  ROW(gelu_tanh, x,       gelu_tanh(x),      dy * gelu_tanh_derivative(x))                  \
  ROW(gelu_erf,  x,       gelu_erf(x),       dy * gelu_erf_derivative(x))

/// ROW(name, f(a, b)), with broadcasting. The gradients are in autograd/elementwise.cpp.
/// maximum and minimum are NaN where a or b is.
#define LLSA_BINARY_OPS(ROW)              \
  ROW(add,     a + b)                     \
  ROW(sub,     a - b)                     \
  ROW(mul,     a * b)                     \
  ROW(div,     a / b)                     \
  ROW(maximum, a > b || a != a ? a : b)   \
  ROW(minimum, a < b || a != a ? a : b)

/// ROW(name, relation): 1 where it holds, else 0, in the dtype of a and b, with broadcasting. With a NaN all are
/// 0 but not_equal, which is 1. They have no gradient.
#define LLSA_COMPARISONS(ROW) \
  ROW(greater,       >)       \
  ROW(less,          <)       \
  ROW(greater_equal, >=)      \
  ROW(less_equal,    <=)      \
  ROW(equal,         ==)      \
  ROW(not_equal,     !=)

// clang-format on

namespace llsa::kernels {

#define LLSA_CODE(name, ...) name,
enum class UnaryOp : std::uint8_t { LLSA_UNARY_OPS(LLSA_CODE) };
enum class BinaryOp : std::uint8_t { LLSA_BINARY_OPS(LLSA_CODE) LLSA_COMPARISONS(LLSA_CODE) };
#undef LLSA_CODE

/// Calls f.operator()<op>(): a code that is known when the program runs becomes one that the compiler knows.
template <class F>
void visit(UnaryOp op, F&& f) {
  switch (op) {
#define LLSA_CASE(name, ...) \
  case UnaryOp::name:        \
    return f.template operator()<UnaryOp::name>();
    LLSA_UNARY_OPS(LLSA_CASE)
#undef LLSA_CASE
  }
}
template <class F>
void visit(BinaryOp op, F&& f) {
  switch (op) {
#define LLSA_CASE(name, ...) \
  case BinaryOp::name:       \
    return f.template operator()<BinaryOp::name>();
    LLSA_BINARY_OPS(LLSA_CASE)
    LLSA_COMPARISONS(LLSA_CASE)
#undef LLSA_CASE
  }
}

}  // namespace llsa::kernels

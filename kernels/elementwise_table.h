// Elementwise operations, as the backends provide them.
#pragma once

#include "../core/context.h"

namespace llsa::kernels {

enum class BinaryOp : std::uint8_t { add, sub, mul, div };
enum class UnaryOp : std::uint8_t {
  exp,
  log,
  sqrt,
  neg,
  tanh,
  sigmoid,
  relu,
  square,
  silu,
  gelu_tanh,
  gelu_erf
};
/// dx = dy f'(saved): saved is y for tanh and sigmoid, x for the others.
enum class UnaryBackwardOp : std::uint8_t { tanh, sigmoid, relu, silu, gelu_tanh, gelu_erf };

/// All tensors of one call have one floating dtype. Outputs are contiguous unless said otherwise.
struct ElementwiseBackend {
  /// out = a op b; a and b have out's shape with any strides (0 where broadcast).
  void (*binary)(Context& ctx, BinaryOp op, const Tensor& a, const Tensor& b, const Tensor& out);
  /// y = scale x + shift; x contiguous.
  void (*affine)(Context& ctx, const Tensor& x, double scale, double shift, const Tensor& y);
  /// y = f(x); x contiguous.
  void (*unary)(Context& ctx, UnaryOp op, const Tensor& x, const Tensor& y);
  /// dx = dy f'(saved); dy and saved contiguous.
  void (*unary_backward)(Context& ctx, UnaryBackwardOp op, const Tensor& dy, const Tensor& saved,
                         const Tensor& dx);
  /// into += x; x has into's shape, both with any strides.
  void (*accumulate)(Context& ctx, const Tensor& x, const Tensor& into);
  /// flag i32[1] = 1 if every element of the contiguous x is finite, else 0.
  void (*all_finite)(Context& ctx, const Tensor& x, const Tensor& flag);
};

}  // namespace llsa::kernels

// Checks of the arguments of public operations. Messages read "[op] expected ..., got ...".
#pragma once

#include <initializer_list>

#include "../core/context.h"

namespace llsa::kernels {

/// The dtype in which values of a floating dtype are summed: f64 for f64, f32 for f32 and bf16.
inline DType accumulator_of(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

/// x's shape without its last axis; x has at least one.
Shape without_last_axis(const Shape& shape);

namespace check {

/// A tensor argument and its name in messages.
struct Argument {
  const char* name;
  const Tensor& tensor;
};

/// Defined and on the context's device. Throws ValueError, DeviceError.
void on_device(const Context& ctx, const char* op, std::initializer_list<Argument> arguments);

/// f32, bf16 or f64. Throws DTypeError.
void floating(const char* op, const Argument& a);

/// Of this dtype. Throws DTypeError.
void dtype(const char* op, const Argument& a, DType wanted);

/// Of the same dtype as another tensor, where neither is the one to follow. Throws DTypeError.
void same_dtype(const char* op, const Argument& a, const Argument& b);

/// With this number of axes, called `letters` in the message. Throws ShapeError.
void rank(const char* op, const Argument& a, int wanted, const char* letters);

/// Throws ShapeError.
void rank_at_least(const char* op, const Argument& a, int wanted);

/// Throws ShapeError.
void shape(const char* op, const Argument& a, const Shape& wanted);

/// One element of a dtype. Throws DTypeError, ShapeError.
void scalar(const char* op, const Argument& a, DType wanted);

/// Of another tensor's shape and dtype. Throws ShapeError, DTypeError.
void like(const char* op, const Argument& a, const Argument& reference);

/// Heads for attention: floating, [b,H,N,D] with no extent 0, on the context's device. Returns the tensor, or
/// a contiguous copy if D has no unit stride. Throws ValueError, DeviceError, DTypeError, ShapeError.
Tensor heads(Context& ctx, const char* op, const Argument& a);

}  // namespace check

}  // namespace llsa::kernels

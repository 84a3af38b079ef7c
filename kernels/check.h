// Checks of arguments that every kernel's front shares. `where` names the operation in messages.
#pragma once

#include <initializer_list>

#include "../core/context.h"

namespace llsa::kernels {

/// Throws DeviceError unless every defined tensor is on the context's device.
void check_device(const Context& ctx, const char* where, std::initializer_list<const Tensor*> tensors);
/// Throws DTypeError unless x is f32, bf16 or f64.
void check_floating(const char* where, const Tensor& x);
/// Throws DTypeError unless the dtypes agree.
void check_same_dtype(const char* where, const Tensor& a, const Tensor& b);
/// Throws ShapeError unless x, called `name` in the message, has this shape.
void check_shape(const char* where, const char* name, const Tensor& x, const Shape& expected);

}  // namespace llsa::kernels

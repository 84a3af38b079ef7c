// Argument checks that full attention and LLSA share.
#pragma once

#include "../core/context.h"

namespace llsa::kernels {

/// x is a floating [b,H,N,D] tensor on the context's device, no extent 0. Returns x, or a contiguous copy if
/// D has no unit stride. Throws ShapeError, DTypeError, DeviceError.
Tensor check_heads(Context& ctx, const char* where, const char* name, const Tensor& x);

/// `x` has this shape and dtype. Throws ShapeError, DTypeError.
void check_like(const char* where, const char* name, const Tensor& x, const Shape& shape, DType dtype);

/// Uninitialised [b,N,H,D] memory as a [b,H,N,D] view.
Tensor empty_merged(Context& ctx, const Shape& heads_shape, DType dtype);

/// f32, or f64 for f64: the dtype of lse.
inline DType lse_dtype(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

}  // namespace llsa::kernels

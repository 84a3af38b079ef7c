// Argument checks that full attention and LLSA share.
#pragma once

#include "check.h"

namespace llsa::kernels {

/// x is a floating [b,H,N,D] tensor on the context's device, no extent 0. Returns it, or a contiguous copy if
/// D has no unit stride. Throws ValueError, DeviceError, DTypeError, ShapeError.
Tensor check_heads(Context& ctx, const char* where, const check::Argument& x);

/// lse is [b,H,N] for q[b,H,N,D], in the dtype that sums have. Throws ShapeError, DTypeError, DeviceError.
void check_lse(const Context& ctx, const char* where, const Tensor& lse, const Tensor& q);

/// Uninitialised lse of q.
Tensor empty_lse(Context& ctx, const Tensor& q);

/// Uninitialised [b,N,H,D] memory as a [b,H,N,D] view.
Tensor empty_merged(Context& ctx, const Shape& heads_shape, DType dtype);

}  // namespace llsa::kernels

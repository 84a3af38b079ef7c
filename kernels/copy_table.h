// Copying, as the backends provide it.
#pragma once

#include "../core/context.h"

namespace llsa::kernels {

struct CopyBackend {
  /// dst = src, converted; equal shapes, any strides (src may have strides 0), any dtypes.
  void (*copy)(Context& ctx, const Tensor& src, const Tensor& dst);
  /// Every element of dst, any strides, becomes the value.
  void (*fill)(Context& ctx, const Tensor& dst, double value);
};

}  // namespace llsa::kernels

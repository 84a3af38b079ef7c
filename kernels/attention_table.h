// Full attention, as the backends provide it.
#pragma once

#include "../core/context.h"

namespace llsa::kernels {

/// Tensors as in attention.h, checked; outputs allocated.
struct AttentionBackend {
  void (*forward)(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& o,
                  const Tensor& lse);
  void (*backward)(Context& ctx, const Tensor& d_o, const Tensor& q, const Tensor& k, const Tensor& v,
                   const Tensor& o, const Tensor& lse, const Tensor& dq, const Tensor& dk, const Tensor& dv);
};

}  // namespace llsa::kernels

// Reductions, as the backends provide them.
#pragma once

#include "../core/context.h"

namespace llsa::kernels {

enum class ReduceOp : std::uint8_t { sum, mean, max };

struct ReduceBackend {
  /// y has x's rank with extent 1 on the reduced axes; both contiguous. A sum over nothing is
  /// 0; max never sees an empty axis.
  void (*reduce)(Context& ctx, ReduceOp op, const Tensor& x, const Tensor& y);
};

}  // namespace llsa::kernels

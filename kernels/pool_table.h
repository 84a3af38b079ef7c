// Block means, as the backends provide them.
#pragma once

#include "../core/context.h"

namespace llsa::kernels {

/// Contiguous tensors of one floating dtype: x, dx [R,N,D]; y, dy [R,ceil(N/block),D].
struct PoolBackend {
  void (*mean_pool)(Context& ctx, const Tensor& x, std::int64_t block, const Tensor& y);
  void (*mean_pool_backward)(Context& ctx, const Tensor& dy, std::int64_t block, const Tensor& dx);
};

}  // namespace llsa::kernels

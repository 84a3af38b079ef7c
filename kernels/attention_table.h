// Full attention, as the backends provide it.
#pragma once

#include <string>

#include "../core/context.h"

namespace llsa::kernels {

/// Tensors as in attention.h, checked; outputs allocated.
struct AttentionBackend {
  void (*forward)(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& o,
                  const Tensor& lse);
  void (*backward)(Context& ctx, const Tensor& d_o, const Tensor& q, const Tensor& k, const Tensor& v,
                   const Tensor& o, const Tensor& lse, const Tensor& dq, const Tensor& dk, const Tensor& dv);

  // The same by a library. Empty when done; else, with nothing written, why not: which depends on dtypes,
  // shapes, strides and addresses' alignment only. Null where there is no library.
  std::string (*library_forward)(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                                 const Tensor& o, const Tensor& lse);
  /// Declines, too, what takes more than `most_memory` bytes besides the tensors.
  std::string (*library_backward)(Context& ctx, const Tensor& d_o, const Tensor& q, const Tensor& k,
                                  const Tensor& v, const Tensor& o, const Tensor& lse, const Tensor& dq,
                                  const Tensor& dk, const Tensor& dv, std::int64_t most_memory);
};

}  // namespace llsa::kernels

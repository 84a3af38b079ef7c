// Softmax and log-sum-exp, as the backends provide them.
#pragma once

#include "../core/context.h"

namespace llsa::kernels {

/// Contiguous tensors of one floating dtype; rows are the last axis, of length >= 0.
struct SoftmaxBackend {
  void (*softmax)(Context& ctx, const Tensor& x, const Tensor& y);
  void (*softmax_backward)(Context& ctx, const Tensor& dy, const Tensor& y, const Tensor& dx);
  void (*log_sum_exp)(Context& ctx, const Tensor& x, const Tensor& l);
  void (*log_sum_exp_backward)(Context& ctx, const Tensor& dl, const Tensor& x, const Tensor& l,
                               const Tensor& dx);
};

}  // namespace llsa::kernels

// CUDA RoPE and head split; contracts in kernels/rope_table.h.
#pragma once

#include "../rope_table.h"

namespace llsa::kernels::cuda {

void rope(Context& ctx, const Tensor& x, const Tensor& cos, const Tensor& sin, bool inverse, const Tensor& y);
void qkv_split(Context& ctx, const Tensor& qkv, const Tensor& q_weight, const Tensor& k_weight, double eps,
               const Tensor& cos, const Tensor& sin, const Tensor& q, const Tensor& k, const Tensor& v,
               const Tensor& q_rstd, const Tensor& k_rstd);
void qkv_split_backward(Context& ctx, const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& qkv,
                        const Tensor& q_weight, const Tensor& k_weight, const Tensor& q_rstd,
                        const Tensor& k_rstd, const Tensor& cos, const Tensor& sin, const Tensor& dqkv,
                        const Tensor& dq_weight, const Tensor& dk_weight);

}  // namespace llsa::kernels::cuda

// CUDA norms and their fusions; contracts in kernels/norm_table.h.
#pragma once

#include "../norm_table.h"

namespace llsa::kernels::cuda {

void layer_norm(Context& ctx, const Tensor& x, const Tensor& gain, const Tensor& offset, bool plus_one,
                double eps, const Tensor& y, const Tensor& mean, const Tensor& rstd);
void layer_norm_backward(Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& gain, bool plus_one,
                         const Tensor& mean, const Tensor& rstd, const Tensor& dx, const Tensor& dgain,
                         const Tensor& doffset);
void rms_norm(Context& ctx, const Tensor& x, const Tensor& weight, double eps, const Tensor& y,
              const Tensor& rstd);
void rms_norm_backward(Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& weight,
                       const Tensor& rstd, const Tensor& dx, const Tensor& dw);
void gate_residual(Context& ctx, const Tensor& x, const Tensor& y, const Tensor& gate, const Tensor& z);
void gate_residual_backward(Context& ctx, const Tensor& dz, const Tensor& y, const Tensor& gate,
                            const Tensor& dy, const Tensor& dgate);

}  // namespace llsa::kernels::cuda

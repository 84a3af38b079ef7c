// CUDA elementwise operations; contracts in kernels/elementwise_table.h.
#pragma once

#include "../elementwise_table.h"

namespace llsa::kernels::cuda {

void binary(Context& ctx, BinaryOp op, const Tensor& a, const Tensor& b, const Tensor& out);
void affine(Context& ctx, const Tensor& x, double scale, double shift, const Tensor& y);
void unary(Context& ctx, UnaryOp op, const Tensor& x, const Tensor& y);
void unary_backward(Context& ctx, UnaryBackwardOp op, const Tensor& dy, const Tensor& saved,
                    const Tensor& dx);
void accumulate(Context& ctx, const Tensor& x, const Tensor& into);
void all_finite(Context& ctx, const Tensor& x, const Tensor& flag);

}  // namespace llsa::kernels::cuda

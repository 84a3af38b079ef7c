// Matrix products: the one way to them for the whole project.
//
// f32, bf16 and f64, operands of one dtype; sums run in f32 (f64 for f64). Empty products are zeros. Bits do
// not depend on the number of threads. Results are contiguous.
#pragma once

#include "../core/context.h"

namespace llsa::kernels {

/// a[...,M,K] b[...,K,N] -> [...,M,N]; the leading axes broadcast. trans_a: a is [...,K,M]; trans_b: b is
/// [...,N,K]. Any strides. Throws ShapeError (rank below 2, inner extents that differ, leading axes that do
/// not broadcast), DTypeError.
Tensor matmul(Context& ctx, const Tensor& a, const Tensor& b, bool trans_a = false, bool trans_b = false);

/// x[...,in] w[out,in]^T + bias[out] -> [...,out]; bias may be undefined.
Tensor linear(Context& ctx, const Tensor& x, const Tensor& w, const Tensor& bias);

/// What was not asked for is undefined.
struct LinearGrads {
  Tensor dx;  ///< [...,in]
  Tensor dw;  ///< [out,in]
  Tensor db;  ///< [out]
};

/// dx = dy w, dw = dy^T x, db = sum of dy over all rows; dy[...,out], x[...,in], w[out,in].
LinearGrads linear_backward(Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& w, bool need_dx,
                            bool need_dw, bool need_db);

struct LinearGelu {
  Tensor y;    ///< gelu_tanh(pre) [...,out]
  Tensor pre;  ///< x w^T + bias [...,out], saved for backward
};

/// linear followed by gelu_tanh, applied to each panel of rows while it is in the cache; bias may be
/// undefined.
LinearGelu linear_gelu(Context& ctx, const Tensor& x, const Tensor& w, const Tensor& bias);

/// linear_backward of dy gelu_tanh'(pre), which is formed panel by panel.
LinearGrads linear_gelu_backward(Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& w,
                                 const Tensor& pre, bool need_dx = true, bool need_dw = true,
                                 bool need_db = true);

}  // namespace llsa::kernels

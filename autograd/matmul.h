// Matrix products, linear layers.
#pragma once

#include "var.h"

namespace llsa {

/// y[...,M,N] = A B, A = a[...,M,K] (a[...,K,M]^T with trans_a), B = b[...,K,N] (b[...,N,K]^T with trans_b);
/// leading axes broadcast. dA = dy B^T, dB = A^T dy, summed over broadcast axes; saves the other factor of
/// each wanted gradient.
Var matmul(const Var& a, const Var& b, bool trans_a = false, bool trans_b = false);

/// y[...,out] = x[...,in] w[out,in]^T + bias[out]; bias may be undefined. dx = dy w, dw = dy^T x, dbias = sum
/// of dy over the rows; saves x and w.
Var linear(const Var& x, const Var& w, const Var& bias = {});

/// y = gelu_tanh(linear(x, w, bias)), the activation applied while a panel of rows is in the cache. Saves x,
/// w and the [...,out] input of the activation.
Var linear_gelu(const Var& x, const Var& w, const Var& bias = {});

}  // namespace llsa

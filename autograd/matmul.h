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

/// y = linear(gelu_tanh(linear(x, up, up_bias)), down, down_bias), the feed-forward part of a transformer: x[...,in],
/// up[hidden,in], down[out,hidden]; the biases may be undefined. The activation and its derivative are applied to
/// products on their way to memory. Saves x, up, down and the [...,hidden] values before and after the activation.
Var mlp(const Var& x, const Var& up, const Var& up_bias, const Var& down, const Var& down_bias);

}  // namespace llsa

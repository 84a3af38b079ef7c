// Elementwise arithmetic and activation functions.
//
// f32, bf16 and f64; bf16 is computed in f32. Results are contiguous. Binary operations broadcast as NumPy
// does and take operands of one dtype. NaN and infinity propagate as in IEEE arithmetic.
#pragma once

#include "../core/context.h"

namespace llsa::kernels {

// Each throws ShapeError when the shapes do not broadcast, DTypeError when the dtypes differ or are not
// floating.
Tensor add(Context& ctx, const Tensor& a, const Tensor& b);  ///< a + b
Tensor sub(Context& ctx, const Tensor& a, const Tensor& b);  ///< a - b
Tensor mul(Context& ctx, const Tensor& a, const Tensor& b);  ///< a b
Tensor div(Context& ctx, const Tensor& a, const Tensor& b);  ///< a / b

/// scale x + shift
Tensor affine(Context& ctx, const Tensor& x, double scale, double shift);

Tensor exp(Context& ctx, const Tensor& x);      ///< e^x
Tensor log(Context& ctx, const Tensor& x);      ///< ln x
Tensor sqrt(Context& ctx, const Tensor& x);     ///< x^(1/2)
Tensor neg(Context& ctx, const Tensor& x);      ///< -x
Tensor tanh(Context& ctx, const Tensor& x);     ///< (e^x - e^-x) / (e^x + e^-x)
Tensor sigmoid(Context& ctx, const Tensor& x);  ///< 1 / (1 + e^-x)
Tensor relu(Context& ctx, const Tensor& x);     ///< max(x, 0); NaN stays NaN
Tensor square(Context& ctx, const Tensor& x);   ///< x^2
Tensor silu(Context& ctx, const Tensor& x);     ///< x sigmoid(x)
Tensor gelu_tanh(
    Context& ctx,
    const Tensor& x);  ///< x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) (Hendrycks and Gimpel, 2016)
Tensor gelu_erf(Context& ctx, const Tensor& x);  ///< x/2 (1 + erf(x / sqrt 2))

// dx = dy f'(.); shapes and dtypes agree. Saved: the output y of tanh and sigmoid, the input x of the others.
Tensor tanh_backward(Context& ctx, const Tensor& dy, const Tensor& y);
Tensor sigmoid_backward(Context& ctx, const Tensor& dy, const Tensor& y);
Tensor relu_backward(Context& ctx, const Tensor& dy, const Tensor& x);  ///< 0 at x = 0
Tensor silu_backward(Context& ctx, const Tensor& dy, const Tensor& x);
Tensor gelu_tanh_backward(Context& ctx, const Tensor& dy, const Tensor& x);
Tensor gelu_erf_backward(Context& ctx, const Tensor& dy, const Tensor& x);

/// into += x, x broadcast to into's shape; both with any strides. Throws ShapeError, DTypeError.
void accumulate(Context& ctx, const Tensor& x, const Tensor& into);

/// i32[1]: 1 if no element is infinite or NaN, else 0. It stays on the device.
Tensor all_finite(Context& ctx, const Tensor& x);

}  // namespace llsa::kernels

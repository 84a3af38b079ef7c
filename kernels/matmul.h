// Matrix products.
//
// f32, bf16 and f64, operands of one dtype; sums run in f32 (f64 for f64). Empty products are zeros. Bits do
// not depend on the number of threads. Results are contiguous. The backward functions check nothing: they are
// called with what the forward took and saved, and with a gradient of its output's shape and dtype.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "../core/context.h"

namespace llsa::kernels {

/// a[...,M,K] b[...,K,N] -> [...,M,N]; the leading axes broadcast. trans_a: a is [...,K,M]; trans_b: b is
/// [...,N,K]. Any strides. Throws ShapeError (rank below 2, inner extents that differ, leading axes that do
/// not broadcast), DTypeError.
Tensor matmul(Context& ctx, const Tensor& a, const Tensor& b, bool trans_a = false, bool trans_b = false);

/// FLOPs of [m,k] times [k,n].
constexpr double product_flops(std::int64_t m, std::int64_t n, std::int64_t k) {
  return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
}

/// x[...,in] w[out,in]^T + bias[out] -> [...,out]; bias may be undefined.
Tensor linear(Context& ctx, const Tensor& x, const Tensor& w, const Tensor& bias);

struct LinearGelu {
  Tensor y;    ///< gelu_tanh(pre) [...,out]
  Tensor pre;  ///< x w^T + bias [...,out], saved for backward
};

/// linear followed by gelu_tanh, applied to each panel of rows while it is in the cache; bias may be
/// undefined.
LinearGelu linear_gelu(Context& ctx, const Tensor& x, const Tensor& w, const Tensor& bias);

/// dx = dy w, dw = dy^T x, db = sum of dy over all rows; dy[...,out], x[...,in], w[out,in]. With pre[...,in], of which x is
/// gelu_tanh, dx is the gradient of pre: dy w gelu_tanh'(pre). dw[out,in] and db[out] are written to tensors of the caller,
/// contiguous and in the dtype of sums; an undefined one is not wanted. Returns dx[...,in], undefined if it is not wanted.
Tensor linear_backward(Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& w, const Tensor& pre,
                       bool need_dx, const Tensor& dw, const Tensor& db);

/// Gradients that were not asked for are undefined; dw and db in the dtype of sums.
struct LinearGrads {
  Tensor dx, dw, db;
};
/// The same with new tensors for dw and db.
LinearGrads linear_backward(Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& w, bool need_dx,
                            bool need_dw, bool need_db, const Tensor& pre = {});

// Which algorithm computes a product, where a library offers several.
//
// A kind of product is its dtype, sizes, layouts, alignments, and what is done to it on the way to memory.
// The first product of a kind settles how all products of this kind are computed in the context: by the
// algorithm that the library believes to be the fastest or, while the context tunes, by the fastest of the
// first eight, which are timed. Algorithms add in different orders, so their last bits differ: to get the
// same bits again in another process, without trusting its clock, take the choices along.
//
// Only CUDA contexts have a choice; on the CPU nothing is ever timed or stored.

/// How the products of a context are computed. The texts are the backend's own; they hold no spaces at their
/// ends, no line ends and nothing but ASCII.
struct ProductChoices {
  std::string machine;                            ///< device, library and version that they are good for
  std::map<std::string, std::string> algorithms;  ///< kind of product -> its algorithm
};

/// Whether the kinds of products that are new from now on are timed; off at first. Such a product waits for
/// the device, unless its stream is being captured into a graph: it is then not timed. Throws DeviceError.
void tune_products(Context& ctx, bool on);

/// The machine; every choice since the context first tuned or had choices restored, timed or not, and the
/// restored ones.
ProductChoices product_choices(Context& ctx);

/// The kinds named there that the context has not met yet will be computed as stored. False, with nothing
/// done, when the choices are another machine's. Throws ValueError, with nothing done, for a text that is no
/// algorithm; a kind's first product throws CudaError when the library refuses the one stored for it.
bool restore_product_choices(Context& ctx, const ProductChoices& choices);

}  // namespace llsa::kernels

// cuBLASLt for one context: its handle, its workspace, and the algorithm chosen for every kind of product.
//
// Of the first eight algorithms that the library's heuristic offers, those are used that add the parts of a long
// sum in f32 (f64 for f64), in a fixed order and outside of the output: no part is ever added atomically or in
// bf16. For the gradient of a weight together with that of its bias, an algorithm that does not cut its long sum is
// not used if only few multiprocessors would have work. The choice is the first of the remaining algorithms or, while the
// context tunes, the fastest on the device. It is made once for a shape, layout, alignment and epilogue.
#pragma once

#include <cstdint>
#include <memory>

#include "../../core/context.h"
#include "../matmul.h"

namespace llsa::kernels::cuda {

/// What is done to a product on its way to memory.
enum class Epilogue : std::uint8_t {
  none,
  bias,            ///< out += bias[n] in every row
  bias_gelu,       ///< pre = product + bias, out = gelu_tanh(pre)
  gelu_gradient,   ///< out = product gelu_tanh'(pre)
  operand_row_sum  ///< bias[m] = sums of the rows of a
};

/// out[B,m,n] = a[B,m,k] b[B,k,n]: all extents positive, out contiguous; a and b with unit stride
/// in one of their matrix axes and any batch stride. bias and pre (out's shape) contiguous. One dtype, but out, with bias,
/// may also be f32 where a and b are bf16.
struct Product {
  Tensor a, b, out;
  Epilogue epilogue = Epilogue::none;
  Tensor bias = {}, pre = {};
};

class CublasLt {
 public:
  /// The one of this context, made at its first call.
  static CublasLt& of(Context& ctx);

  explicit CublasLt(Context& ctx);
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  /// False, with nothing done, when the library has no algorithm for the product with this epilogue, or none in bf16 for
  /// sides that are no multiples of 8. Throws CudaError with the failed call, its status and the product; for
  /// Epilogue::none also when there is no algorithm for any other reason.
  bool multiply(Context& ctx, const Product& product);

  /// tune_products, product_choices and restore_product_choices of kernels/matmul.h.
  void tune(bool on);
  ProductChoices choices(Context& ctx) const;
  bool restore(Context& ctx, const ProductChoices& choices);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace llsa::kernels::cuda

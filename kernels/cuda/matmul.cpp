// CUDA matrix products: by cuBLASLt (cublaslt.h), which also adds biases and applies GELU where it can, and by our
// own elementwise kernels for the rest.
//
//   bias            by the library; f64: by accumulate()
//   bias and GELU   by the library in bf16, where rounding hides its approximation of tanh; f32 and f64: the
//                   bias by the library, then our gelu_tanh
//   GELU backward   dy w gelu_tanh'(pre) by the library in bf16; f32 and f64: the product, then our kernel
//   bias gradient   by the library together with dw; f64, or without dw: by fold()
//   dw, db in bf16  in f32, as they are summed
//
// If the library has no algorithm for a product with these additions, a plain product and our kernels take its place. If
// it has none for a plain product in bf16 with thin or unaligned matrices, the matrices are padded with zeros until their
// sides are multiples of 8.
#include "kernels/backend/layers.h"

#include "kernels/backend/tensors.h"
#include "kernels/copy.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/libraries.h"
#include "kernels/elementwise_ops.h"

namespace llsa::kernels::cuda {
namespace {

constexpr std::int64_t kAuxAlignment = 8;  // elements in a row of `pre`, for the library to write it

/// The first `rows` rows and `columns` columns of every matrix.
Tensor corner(const Tensor& x, std::int64_t rows, std::int64_t columns) {
  return x.slice(-2, 0, rows).slice(-1, 0, columns);
}

/// Zeros of the shape of x, with sides rounded up to multiples of 8.
Tensor room_for(Context& ctx, const Tensor& x) {
  const auto up = [](std::int64_t n) { return (n + 7) / 8 * 8; };
  const std::int64_t rows = up(x.size(-2)), columns = up(x.size(-1));
  return ctx.zeros(x.rank() == 3 ? Shape{x.size(0), rows, columns} : Shape{rows, columns}, x.dtype());
}

Tensor padded(Context& ctx, const Tensor& x) {
  const Tensor room = room_for(ctx, x);
  copy(ctx, x, corner(room, x.size(-2), x.size(-1)));
  return room;
}

/// out = a b, any extents.
void product(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& out) {
  if (out.numel() == 0) return;
  if (a.size(-1) == 0) {
    fill(ctx, out, 0.0);
    return;
  }
  CublasLt& library = CublasLt::of(ctx);
  if (library.multiply(ctx, {a, b, out})) return;
  const Tensor room = room_for(ctx, out);
  library.multiply(ctx, {padded(ctx, a), padded(ctx, b), room});
  copy(ctx, corner(room, out.size(-2), out.size(-1)), out);
}

/// True when the library did it.
bool fused(Context& ctx, const Product& product) {
  const bool empty = product.out.numel() == 0 || product.a.size(-1) == 0;
  return !empty && product.out.dtype() != DType::f64 && CublasLt::of(ctx).multiply(ctx, product);
}

void matmul(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& out) { product(ctx, a, b, out); }

void linear(Context& ctx, const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y,
            const Tensor& pre) {
  if (y.numel() == 0) return;
  const Tensor weight = w.transpose(0, 1);  // [K,N]
  const Tensor& sum = pre.defined() ? pre : y;
  const Tensor dense = bias.defined() ? aligned(ctx, kernels::contiguous(ctx, bias)) : Tensor();
  if (pre.defined() && bias.defined() && y.dtype() == DType::bf16 && y.size(1) % kAuxAlignment == 0 &&
      fused(ctx, {x, weight, y, Epilogue::bias_gelu, dense, pre}))
    return;
  if (!bias.defined() || !fused(ctx, {x, weight, sum, Epilogue::bias, dense})) {
    product(ctx, x, weight, sum);
    if (bias.defined()) kElementwise.accumulate(ctx, bias.expand(sum.shape()), sum);
  }
  if (pre.defined()) kElementwise.unary(ctx, UnaryOp::gelu_tanh, pre, y);
}

void input_gradient(Context& ctx, const LinearBackwardArgs& args) {
  const Tensor& dx = args.dx;
  const bool by_library = args.pre.defined() && dx.dtype() == DType::bf16 && dx.size(1) % kAuxAlignment == 0;
  if (by_library && fused(ctx, {args.dy, args.w, dx, Epilogue::gelu_gradient, {}, args.pre})) return;
  product(ctx, args.dy, args.w, dx);
  if (args.pre.defined() && dx.numel() != 0)
    kElementwise.unary_backward(ctx, UnaryOp::gelu_tanh, dx, args.pre, dx);
}

void linear_backward(Context& ctx, const LinearBackwardArgs& args) {
  const Tensor& dy = args.dy;  // [M,N]
  if (args.dx.defined()) input_gradient(ctx, args);
  const Tensor dy_t = dy.transpose(0, 1);
  if (args.dw.defined() && args.db.defined() &&
      fused(ctx, {dy_t, args.x, args.dw, Epilogue::operand_row_sum, args.db}))
    return;
  if (args.dw.defined()) product(ctx, dy_t, args.x, args.dw);
  if (args.db.defined() && args.db.numel() != 0)
    kReduce.fold(ctx, FoldOp::sum, dy.unsqueeze(0), 1.0, args.db.unsqueeze(0));
}

void tune_products(Context& ctx, bool on) { CublasLt::of(ctx).tune(on); }

ProductChoices product_choices(Context& ctx) { return CublasLt::of(ctx).choices(ctx); }

bool restore_product_choices(Context& ctx, const ProductChoices& choices) {
  return CublasLt::of(ctx).restore(ctx, choices);
}

}  // namespace

constinit const MatmulBackend kMatmul = {.matmul = matmul,
                                         .linear = linear,
                                         .linear_backward = linear_backward,
                                         .tune_products = tune_products,
                                         .product_choices = product_choices,
                                         .restore_product_choices = restore_product_choices};

}  // namespace llsa::kernels::cuda

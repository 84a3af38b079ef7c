// Losses: checks and allocation.
#include "kernels/loss.h"

#include "kernels/backend.h"
#include "kernels/check.h"
#include "kernels/copy.h"

namespace llsa::kernels {
Tensor mse(Context& ctx, const Tensor& a, const Tensor& b) {
  check::on_device(ctx, "mse", {{"a", a}, {"b", b}});
  check::floating("mse", {"a", a});
  check::like("mse", {"b", b}, {"a", a});
  const Tensor loss = ctx.empty(Shape{}, accumulator_of(a.dtype()));
  backend(ctx).loss.mse(ctx, contiguous(ctx, a), contiguous(ctx, b), loss);
  return loss;
}

Tensor mse_backward(Context& ctx, const Tensor& dloss, const Tensor& a, const Tensor& b) {
  const Tensor da = ctx.empty_like(a);
  backend(ctx).loss.mse_backward(ctx, dloss, contiguous(ctx, a), contiguous(ctx, b), da);
  return da;
}

Tensor cross_entropy(Context& ctx, const Tensor& logits, const Tensor& labels) {
  const char* op = "cross_entropy";
  check::on_device(ctx, op, {{"logits", logits}, {"labels", labels}});
  check::floating(op, {"logits", logits});
  check::rank(op, {"logits", logits}, 2, "[n,c]");
  check::dtype(op, {"labels", labels}, DType::i32);
  check::shape(op, {"labels", labels}, Shape{logits.size(0)});
  const Tensor loss = ctx.empty(Shape{}, accumulator_of(logits.dtype()));
  backend(ctx).loss.cross_entropy(ctx, contiguous(ctx, logits), contiguous(ctx, labels), loss);
  return loss;
}

Tensor cross_entropy_backward(Context& ctx, const Tensor& dloss, const Tensor& logits, const Tensor& labels) {
  const Tensor dlogits = ctx.empty_like(logits);
  backend(ctx).loss.cross_entropy_backward(ctx, dloss, contiguous(ctx, logits), contiguous(ctx, labels),
                                           dlogits);
  return dlogits;
}

}  // namespace llsa::kernels

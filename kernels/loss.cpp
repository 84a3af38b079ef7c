// Losses: checks and allocation.
#include "kernels/loss.h"

#include "kernels/backend.h"
#include "kernels/check.h"
#include "kernels/copy.h"

namespace llsa::kernels {
namespace {

void check_pair(const Context& ctx, const char* op, const Tensor& a, const Tensor& b) {
  check::on_device(ctx, op, {{"a", a}, {"b", b}});
  check::floating(op, {"a", a});
  check::like(op, {"b", b}, {"a", a});
}

void check_labels(const Context& ctx, const char* op, const Tensor& logits, const Tensor& labels) {
  check::on_device(ctx, op, {{"logits", logits}, {"labels", labels}});
  check::floating(op, {"logits", logits});
  check::rank(op, {"logits", logits}, 2, "[n,c]");
  check::dtype(op, {"labels", labels}, DType::i32);
  check::shape(op, {"labels", labels}, Shape{logits.size(0)});
}

void check_dloss(const Context& ctx, const char* op, const Tensor& dloss, const Tensor& reference) {
  check::on_device(ctx, op, {{"dloss", dloss}});
  check::scalar(op, {"dloss", dloss}, accumulator_of(reference.dtype()));
}

}  // namespace

Tensor mse(Context& ctx, const Tensor& a, const Tensor& b) {
  check_pair(ctx, "mse", a, b);
  const Tensor loss = ctx.empty(Shape{}, accumulator_of(a.dtype()));
  backend(ctx).loss.mse(ctx, contiguous(ctx, a), contiguous(ctx, b), loss);
  return loss;
}

Tensor mse_backward(Context& ctx, const Tensor& dloss, const Tensor& a, const Tensor& b) {
  check_pair(ctx, "mse_backward", a, b);
  check_dloss(ctx, "mse_backward", dloss, a);
  const Tensor da = ctx.empty_like(a);
  backend(ctx).loss.mse_backward(ctx, dloss, contiguous(ctx, a), contiguous(ctx, b), da);
  return da;
}

Tensor cross_entropy(Context& ctx, const Tensor& logits, const Tensor& labels) {
  check_labels(ctx, "cross_entropy", logits, labels);
  const Tensor loss = ctx.empty(Shape{}, accumulator_of(logits.dtype()));
  backend(ctx).loss.cross_entropy(ctx, contiguous(ctx, logits), contiguous(ctx, labels), loss);
  return loss;
}

Tensor cross_entropy_backward(Context& ctx, const Tensor& dloss, const Tensor& logits, const Tensor& labels) {
  check_labels(ctx, "cross_entropy_backward", logits, labels);
  check_dloss(ctx, "cross_entropy_backward", dloss, logits);
  const Tensor dlogits = ctx.empty_like(logits);
  backend(ctx).loss.cross_entropy_backward(ctx, dloss, contiguous(ctx, logits), contiguous(ctx, labels),
                                           dlogits);
  return dlogits;
}

}  // namespace llsa::kernels

// Softmax and log-sum-exp: checks and allocation.
#include "kernels/softmax.h"

#include "kernels/backend.h"
#include "kernels/check.h"
#include "kernels/copy.h"

namespace llsa::kernels {
namespace {

void check_rows(const Context& ctx, const char* op, const Tensor& x) {
  check::on_device(ctx, op, {{"x", x}});
  check::floating(op, {"x", x});
  check::rank_at_least(op, {"x", x}, 1);
}

}  // namespace

Tensor softmax(Context& ctx, const Tensor& x) {
  check_rows(ctx, "softmax", x);
  const Tensor y = ctx.empty_like(x);
  backend(ctx).softmax.softmax(ctx, contiguous(ctx, x), y);
  return y;
}

Tensor softmax_backward(Context& ctx, const Tensor& dy, const Tensor& y) {
  const Tensor dx = ctx.empty_like(y);
  backend(ctx).softmax.softmax_backward(ctx, contiguous(ctx, dy), y, dx);
  return dx;
}

Tensor log_sum_exp(Context& ctx, const Tensor& x) {
  check_rows(ctx, "log_sum_exp", x);
  const Tensor l = ctx.empty(without_last_axis(x.shape()), x.dtype());
  backend(ctx).softmax.log_sum_exp(ctx, contiguous(ctx, x), l);
  return l;
}

Tensor log_sum_exp_backward(Context& ctx, const Tensor& dl, const Tensor& x, const Tensor& l) {
  const Tensor dx = ctx.empty_like(x);
  backend(ctx).softmax.log_sum_exp_backward(ctx, contiguous(ctx, dl), contiguous(ctx, x), l, dx);
  return dx;
}

}  // namespace llsa::kernels

// Rows by number: checks and allocation.
#include "kernels/index.h"

#include <limits>

#include "kernels/backend.h"
#include "kernels/check.h"
#include "kernels/copy.h"

namespace llsa::kernels {
namespace {

void check_order(const Context& ctx, const char* op, const Tensor& order) {
  check::on_device(ctx, op, {{"order", order}});
  check::dtype(op, {"order", order}, DType::i32);
  check::rank(op, {"order", order}, 1, "[N]");
}

}  // namespace

Tensor embedding(Context& ctx, const Tensor& table, const Tensor& ids) {
  const char* op = "embedding";
  check::on_device(ctx, op, {{"table", table}, {"ids", ids}});
  check::floating(op, {"table", table});
  check::rank(op, {"table", table}, 2, "[V,C]");
  check::dtype(op, {"ids", ids}, DType::i32);
  std::vector<std::int64_t> extents = ids.shape().extents();
  extents.push_back(table.size(1));
  const Tensor y = ctx.empty(Shape(extents), table.dtype());
  backend(ctx).index.gather_rows(ctx, op, contiguous(ctx, table).unsqueeze(0),
                                 contiguous(ctx, ids).reshape(Shape{ids.numel()}),
                                 y.reshape(Shape{1, ids.numel(), table.size(1)}));
  return y;
}

Tensor embedding_backward(Context& ctx, const Tensor& dy, const Tensor& ids, std::int64_t rows) {
  const std::int64_t c = dy.size(-1);
  const Tensor dtable = ctx.empty(Shape{rows, c}, dy.dtype());
  if (dtable.numel() == 0) return dtable;
  backend(ctx).index.scatter_rows(ctx, "embedding_backward",
                                  contiguous(ctx, dy).reshape(Shape{ids.numel(), c}),
                                  contiguous(ctx, ids).reshape(Shape{ids.numel()}), dtable);
  return dtable;
}

Tensor gather_tokens(Context& ctx, const Tensor& x, const Tensor& order) {
  const char* op = "gather_tokens";
  check::on_device(ctx, op, {{"x", x}});
  check::floating(op, {"x", x});
  check::rank(op, {"x", x}, 3, "[b,N,C]");
  check_order(ctx, op, order);
  const Tensor y = ctx.empty(Shape{x.size(0), order.numel(), x.size(2)}, x.dtype());
  backend(ctx).index.gather_rows(ctx, op, contiguous(ctx, x), contiguous(ctx, order), y);
  return y;
}

Tensor inverse_order(Context& ctx, const Tensor& order) {
  check_order(ctx, "inverse_order", order);
  const Tensor inverse = ctx.empty_like(order);
  backend(ctx).index.inverse_order(ctx, contiguous(ctx, order), inverse);
  return inverse;
}

}  // namespace llsa::kernels

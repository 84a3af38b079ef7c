// Block means: checks and allocation.
#include "kernels/pool.h"

#include "kernels/backend.h"
#include "kernels/check.h"
#include "kernels/copy.h"

namespace llsa::kernels {
namespace {

/// The shape with another number of tokens.
Shape with_tokens(const Shape& shape, std::int64_t tokens) {
  std::vector<std::int64_t> extents = shape.extents();
  extents[extents.size() - 2] = tokens;
  return Shape(std::move(extents));
}

/// [...,N,D] as [R,N,D].
Tensor three_axes(const Tensor& x) {
  std::int64_t rows = 1;
  for (int axis = 0; axis + 2 < x.rank(); ++axis) rows *= x.size(axis);
  return x.reshape(Shape{rows, x.size(-2), x.size(-1)});
}

}  // namespace

Tensor mean_pool(Context& ctx, const Tensor& x, std::int64_t block) {
  const char* op = "mean_pool";
  check::on_device(ctx, op, {{"x", x}});
  check::floating(op, {"x", x});
  check::rank_at_least(op, {"x", x}, 2);
  if (block < 1) throw ValueError(cat("[", op, "] expected a block of at least one token, got ", block));
  const std::int64_t blocks = x.size(-2) / block + (x.size(-2) % block != 0);
  const Tensor y = ctx.empty(with_tokens(x.shape(), blocks), x.dtype());
  if (y.numel() != 0) backend(ctx).pool.mean_pool(ctx, three_axes(contiguous(ctx, x)), block, three_axes(y));
  return y;
}

Tensor mean_pool_backward(Context& ctx, const Tensor& dy, std::int64_t tokens, std::int64_t block) {
  const Tensor dx = ctx.empty(with_tokens(dy.shape(), tokens), dy.dtype());
  if (dx.numel() != 0)
    backend(ctx).pool.mean_pool_backward(ctx, three_axes(contiguous(ctx, dy)), block, three_axes(dx));
  return dx;
}

}  // namespace llsa::kernels

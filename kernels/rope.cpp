// RoPE and the fused head split: checks and allocation.
#include "kernels/rope.h"

#include "kernels/backend.h"
#include "kernels/check.h"
#include "kernels/copy.h"

namespace llsa::kernels {
namespace {

void check_table(const Context& ctx, const char* op, const RopeTable& table, std::int64_t tokens,
                 std::int64_t head_dim, DType dtype) {
  check::on_device(ctx, op, {{"cos", table.cos}, {"sin", table.sin}});
  if (head_dim % 2 != 0) throw ShapeError(cat("[", op, "] expected an even head dimension, got ", head_dim));
  for (const check::Argument& a : {check::Argument{"cos", table.cos}, check::Argument{"sin", table.sin}}) {
    check::dtype(op, a, accumulator_of(dtype));
    check::shape(op, a, Shape{tokens, head_dim / 2});
  }
}

Tensor contiguous_or_none(Context& ctx, const Tensor& x) { return x.defined() ? contiguous(ctx, x) : x; }

Tensor turn(Context& ctx, const Tensor& x, const RopeTable& table, bool inverse) {
  const Tensor y = ctx.empty_like(x);
  backend(ctx).rope.rope(ctx, with_unit_last_stride(ctx, x), contiguous(ctx, table.cos),
                         contiguous(ctx, table.sin), inverse, y);
  return y;
}

}  // namespace

Tensor rope(Context& ctx, const Tensor& x, const RopeTable& table) {
  check::on_device(ctx, "rope", {{"x", x}});
  check::floating("rope", {"x", x});
  check::rank("rope", {"x", x}, 4, "[b,H,N,D]");
  check_table(ctx, "rope", table, x.size(2), x.size(3), x.dtype());
  return turn(ctx, x, table, false);
}

Tensor rope_backward(Context& ctx, const Tensor& dy, const RopeTable& table) {
  return turn(ctx, dy, table, true);
}

QkvHeads qkv_split(Context& ctx, const Tensor& qkv, int heads, const Tensor& q_weight, const Tensor& k_weight,
                   double eps, const RopeTable& table) {
  const char* op = "qkv_split";
  check::on_device(ctx, op, {{"qkv", qkv}});
  check::floating(op, {"qkv", qkv});
  check::rank(op, {"qkv", qkv}, 3, "[b,N,3C]");
  if (heads < 1) throw ValueError(cat("[", op, "] expected at least one head, got ", heads));
  const std::int64_t width = qkv.size(2), parts = std::int64_t{3} * heads, head_dim = width / parts;
  if (width == 0 || width % parts != 0)
    throw ShapeError(cat("[", op, "] expected a last axis divisible by 3 x ", heads,
                         " heads, got qkv of shape ", qkv.shape()));
  for (const check::Argument& a :
       {check::Argument{"q_weight", q_weight}, check::Argument{"k_weight", k_weight}}) {
    if (!a.tensor.defined()) continue;
    check::on_device(ctx, op, {a});
    check::dtype(op, a, qkv.dtype());
    check::shape(op, a, Shape{head_dim});
  }
  if (table.defined()) check_table(ctx, op, table, qkv.size(1), head_dim, qkv.dtype());
  if (!(eps >= 0)) throw ValueError(cat("[", op, "] expected eps >= 0, got ", eps));
  const Shape rows{qkv.size(0), heads, qkv.size(1)};
  const Shape shape{qkv.size(0), heads, qkv.size(1), head_dim};
  const DType statistics = accumulator_of(qkv.dtype());
  QkvHeads out{
      ctx.empty(shape, qkv.dtype()), ctx.empty(shape, qkv.dtype()), ctx.empty(shape, qkv.dtype()), {}, {}};
  if (q_weight.defined()) out.q_rstd = ctx.empty(rows, statistics);
  if (k_weight.defined()) out.k_rstd = ctx.empty(rows, statistics);
  if (qkv.numel() == 0) return out;
  backend(ctx).rope.qkv_split(ctx, contiguous(ctx, qkv), contiguous_or_none(ctx, q_weight),
                              contiguous_or_none(ctx, k_weight), eps, contiguous_or_none(ctx, table.cos),
                              contiguous_or_none(ctx, table.sin), out.q, out.k, out.v, out.q_rstd,
                              out.k_rstd);
  return out;
}

Tensor qkv_split_backward(Context& ctx, const Tensor& dq, const Tensor& dk, const Tensor& dv,
                          const Tensor& qkv, const Tensor& q_weight, const Tensor& k_weight,
                          const Tensor& q_rstd, const Tensor& k_rstd, const RopeTable& table,
                          const Tensor& dq_weight, const Tensor& dk_weight) {
  const Tensor dqkv = ctx.empty_like(qkv);
  if (qkv.numel() == 0) {
    for (const Tensor& weight : {dq_weight, dk_weight})
      if (weight.defined()) fill(ctx, weight, 0.0);
    return dqkv;
  }
  backend(ctx).rope.qkv_split_backward(ctx, with_unit_last_stride(ctx, dq), with_unit_last_stride(ctx, dk),
                                       with_unit_last_stride(ctx, dv), contiguous(ctx, qkv),
                                       contiguous_or_none(ctx, q_weight), contiguous_or_none(ctx, k_weight),
                                       q_rstd, k_rstd, contiguous_or_none(ctx, table.cos),
                                       contiguous_or_none(ctx, table.sin), dqkv, dq_weight, dk_weight);
  return dqkv;
}

QkvGrads qkv_split_backward(Context& ctx, const Tensor& dq, const Tensor& dk, const Tensor& dv,
                            const Tensor& qkv, const Tensor& q_weight, const Tensor& k_weight,
                            const Tensor& q_rstd, const Tensor& k_rstd, const RopeTable& table) {
  const auto room = [&](const Tensor& weight) {
    return weight.defined() ? ctx.empty(weight.shape(), accumulator_of(weight.dtype())) : Tensor();
  };
  QkvGrads grads{{}, room(q_weight), room(k_weight)};
  grads.dqkv = qkv_split_backward(ctx, dq, dk, dv, qkv, q_weight, k_weight, q_rstd, k_rstd, table,
                                  grads.dq_weight, grads.dk_weight);
  return grads;
}

}  // namespace llsa::kernels

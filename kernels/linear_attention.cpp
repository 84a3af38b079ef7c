// Linear attention over blocks that were not picked: checks and allocation.
#include "kernels/linear_attention.h"

#include <algorithm>

#include "kernels/backend.h"
#include "kernels/check.h"
#include "kernels/copy.h"

namespace llsa::kernels {
namespace {

constexpr const char* kOp = "linear_attention_rest";

/// A checked argument of f32 or f64, with unit stride in its last axis.
Tensor operand(Context& ctx, const check::Argument& x) {
  Tensor checked = check::heads(ctx, kOp, x);
  if (x.tensor.dtype() == DType::bf16)
    throw DTypeError(cat("[", kOp, "] expected ", x.name, " of f32 or f64, got bf16"), "cast it to f32");
  return checked;
}

}  // namespace

Tensor linear_attention_rest(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& c,
                             std::int64_t block, const Tensor& picks) {
  const Tensor queries = operand(ctx, {"a", a}), keys = operand(ctx, {"b", b}),
               values = operand(ctx, {"c", c});
  check::like(kOp, {"b", b}, {"a", a});
  check::shape(kOp, {"c", c}, {a.size(0), a.size(1), a.size(2), c.size(3)});
  check::dtype(kOp, {"c", c}, a.dtype());
  if (block < 1) throw ValueError(cat("[", kOp, "] expected a block of at least one token, got ", block));
  check::on_device(ctx, kOp, {{"picks", picks}});
  check::dtype(kOp, {"picks", picks}, DType::i32);
  block = std::min(block, a.size(2));  // one block of all tokens
  const std::int64_t blocks = a.size(2) / block + (a.size(2) % block != 0);
  if (picks.rank() != 4 || picks.size(0) != a.size(0) || picks.size(1) != a.size(1) ||
      picks.size(2) != blocks)
    throw ShapeError(cat("[", kOp, "] expected picks [", a.size(0), ",", a.size(1), ",", blocks,
                         ",w], a row for each block, got ", picks.shape()));
  const Tensor y = ctx.empty({a.size(0), a.size(2), a.size(1), c.size(3)}, a.dtype()).transpose(1, 2);
  backend(ctx).linear_attention.linear_attention_rest(ctx, queries, keys, values, block,
                                                      contiguous(ctx, picks), Tensor(), y);
  return y;
}

LinearAttentionGrads linear_attention_rest_backward(Context& ctx, const Tensor& dy, const Tensor& a,
                                                    const Tensor& b, const Tensor& c, std::int64_t block,
                                                    const Tensor& picks) {
  const Tensor d_out = operand(ctx, {"dy", dy});
  check::like(kOp, {"dy", dy}, {"c", c});
  const auto rest = backend(ctx).linear_attention.linear_attention_rest;
  const Tensor queries = with_unit_last_stride(ctx, a), keys = with_unit_last_stride(ctx, b),
               values = with_unit_last_stride(ctx, c), rows = contiguous(ctx, picks);
  block = std::min(block, a.size(2));
  const LinearAttentionGrads grads = {ctx.empty_like(a), ctx.empty_like(b), ctx.empty_like(c)};
  rest(ctx, d_out, values, keys, block, rows, Tensor(), grads.da);
  const IndexTranspose by_key = index_transpose(ctx, rows, rows.size(2));
  rest(ctx, values, d_out, queries, block, by_key.query, by_key.offset, grads.db);
  rest(ctx, keys, queries, d_out, block, by_key.query, by_key.offset, grads.dc);
  return grads;
}

AttentionFlops linear_attention_rest_flops(const LlsaPlan& plan, std::int64_t batch_heads, std::int64_t e,
                                           std::int64_t f) {
  const auto blocks = static_cast<double>(plan.count[1]), picks = static_cast<double>(plan.width[0]);
  const double per_element = 4 * static_cast<double>(plan.tokens) + blocks * std::min(picks, blocks - picks);
  const double forward =
      static_cast<double>(batch_heads) * static_cast<double>(e) * static_cast<double>(f) * per_element;
  return {0, forward, 3 * forward};
}

}  // namespace llsa::kernels

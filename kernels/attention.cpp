// Full attention: checks, allocation, dispatch.
#include "kernels/attention.h"

#include "kernels/attention_check.h"
#include "kernels/backend.h"
#include "kernels/copy.h"

namespace llsa::kernels {

Tensor check_heads(Context& ctx, const char* where, const char* name, const Tensor& x) {
  if (!is_floating(x.dtype()))
    throw DTypeError(cat("[", where, "] expected ", name, " as f32, bf16 or f64, got ", name_of(x.dtype())));
  if (x.rank() != 4 || x.numel() == 0)
    throw ShapeError(
        cat("[", where, "] expected ", name, " as [b,H,N,D] without empty axes, got ", x.shape()));
  if (x.device() != ctx.device())
    throw DeviceError(
        cat("[", where, "] expected ", name, " on ", ctx.device().str(), ", got ", x.device().str()));
  return x.size(3) == 1 || x.stride(3) == 1 ? x : clone(ctx, x);
}

void check_like(const char* where, const char* name, const Tensor& x, const Shape& shape, DType dtype) {
  if (!(x.shape() == shape))
    throw ShapeError(cat("[", where, "] expected ", name, " of shape ", shape, ", got ", x.shape()));
  if (x.dtype() != dtype)
    throw DTypeError(
        cat("[", where, "] expected ", name, " as ", name_of(dtype), ", got ", name_of(x.dtype())));
}

Tensor empty_merged(Context& ctx, const Shape& heads_shape, DType dtype) {
  const Shape& s = heads_shape;
  return ctx.empty({s[0], s[2], s[1], s[3]}, dtype).transpose(1, 2);
}

namespace {

struct Inputs {
  Tensor q, k, v;
};

Inputs check_inputs(Context& ctx, const char* where, const Tensor& q, const Tensor& k, const Tensor& v) {
  const Inputs in = {check_heads(ctx, where, "q", q), check_heads(ctx, where, "k", k),
                     check_heads(ctx, where, "v", v)};
  check_like(where, "k", k, {q.size(0), q.size(1), k.size(2), q.size(3)}, q.dtype());
  check_like(where, "v", v, k.shape(), q.dtype());
  return in;
}

}  // namespace

AttentionResult full_attention(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v) {
  const Inputs in = check_inputs(ctx, "full_attention", q, k, v);
  AttentionResult result;
  result.o = empty_merged(ctx, q.shape(), q.dtype());                               // [b,H,N,D]
  result.lse = ctx.empty({q.size(0), q.size(1), q.size(2)}, lse_dtype(q.dtype()));  // [b,H,N]
  backend(ctx).attention.forward(ctx, in.q, in.k, in.v, result.o, result.lse);
  return result;
}

AttentionGrads full_attention_backward(Context& ctx, const Tensor& d_o, const Tensor& q, const Tensor& k,
                                       const Tensor& v, const Tensor& o, const Tensor& lse) {
  constexpr const char* kWhere = "full_attention_backward";
  const Inputs in = check_inputs(ctx, kWhere, q, k, v);
  check_like(kWhere, "d_o", d_o, q.shape(), q.dtype());
  check_like(kWhere, "o", o, q.shape(), q.dtype());
  check_like(kWhere, "lse", lse, {q.size(0), q.size(1), q.size(2)}, lse_dtype(q.dtype()));
  const AttentionGrads grads = {ctx.empty_like(q), ctx.empty_like(k), ctx.empty_like(v)};
  backend(ctx).attention.backward(ctx, check_heads(ctx, kWhere, "d_o", d_o), in.q, in.k, in.v,
                                  check_heads(ctx, kWhere, "o", o), contiguous(ctx, lse), grads.dq, grads.dk,
                                  grads.dv);
  return grads;
}

AttentionFlops full_attention_flops(std::int64_t batch_heads, std::int64_t n, std::int64_t m,
                                    std::int64_t d) {
  const double product = 2.0 * static_cast<double>(batch_heads) * static_cast<double>(n) *
                         static_cast<double>(m) * static_cast<double>(d);
  return {0, 2 * product, 5 * product};
}

}  // namespace llsa::kernels

// Full attention: checks, allocation, dispatch.
#include "kernels/attention.h"

#include <limits>

#include "kernels/attention_check.h"
#include "kernels/backend.h"
#include "kernels/copy.h"

namespace llsa::kernels {

Tensor check_heads(Context& ctx, const char* where, const check::Argument& x) {
  check::on_device(ctx, where, {x});
  check::floating(where, x);
  if (x.tensor.rank() != 4 || x.tensor.numel() == 0)
    throw ShapeError(
        cat("[", where, "] expected ", x.name, " as [b,H,N,D] without empty axes, got ", x.tensor.shape()));
  return with_unit_last_stride(ctx, x.tensor);
}

namespace {

Shape lse_shape(const Tensor& q) { return {q.size(0), q.size(1), q.size(2)}; }

}  // namespace

void check_lse(const Context& ctx, const char* where, const Tensor& lse, const Tensor& q) {
  check::on_device(ctx, where, {{"lse", lse}});
  check::shape(where, {"lse", lse}, lse_shape(q));
  check::dtype(where, {"lse", lse}, accumulator_of(q.dtype()));
}

Tensor empty_lse(Context& ctx, const Tensor& q) { return ctx.empty(lse_shape(q), accumulator_of(q.dtype())); }

Tensor empty_merged(Context& ctx, const Shape& heads_shape, DType dtype) {
  const Shape& s = heads_shape;
  return ctx.empty({s[0], s[2], s[1], s[3]}, dtype).transpose(1, 2);
}

namespace {

/// Of a backward pass by a library that was not asked for by name.
constexpr std::int64_t kMostLibraryMemory = std::int64_t{1} << 30;

struct Inputs {
  Tensor q, k, v;
};

/// Whether a library has done it by call(), which says why not. Throws DeviceError where it was wanted by
/// name and is absent or declines.
template <class Call>
bool done_by_library(Context& ctx, const char* where, AttentionKernels kernels, bool present, Call call) {
  if (kernels == AttentionKernels::own) return false;
  const std::string declined =
      present ? call() : cat("this build has none for the device ", ctx.device().str());
  if (!declined.empty() && kernels == AttentionKernels::library)
    throw DeviceError(cat("[", where, "] no library computes this: ", declined));
  return declined.empty();
}

Inputs check_inputs(Context& ctx, const char* where, const Tensor& q, const Tensor& k, const Tensor& v) {
  const Inputs in = {check_heads(ctx, where, {"q", q}), check_heads(ctx, where, {"k", k}),
                     check_heads(ctx, where, {"v", v})};
  check::shape(where, {"k", k}, {q.size(0), q.size(1), k.size(2), q.size(3)});
  check::dtype(where, {"k", k}, q.dtype());
  check::like(where, {"v", v}, {"k", k});
  return in;
}

}  // namespace

AttentionResult full_attention(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                               AttentionKernels kernels) {
  const Inputs in = check_inputs(ctx, "full_attention", q, k, v);
  AttentionResult result;
  result.o = empty_merged(ctx, q.shape(), q.dtype());  // [b,H,N,D]
  result.lse = empty_lse(ctx, q);                      // [b,H,N]
  const auto by = backend(ctx).attention_library.full_attention;
  const auto library = [&] { return by(ctx, in.q, in.k, in.v, result.o, result.lse); };
  if (!done_by_library(ctx, "full_attention", kernels, by != nullptr, library))
    backend(ctx).attention.full_attention(ctx, in.q, in.k, in.v, result.o, result.lse);
  return result;
}

AttentionGrads full_attention_backward(Context& ctx, const Tensor& d_o, const Tensor& q, const Tensor& k,
                                       const Tensor& v, const Tensor& o, const Tensor& lse,
                                       AttentionKernels kernels) {
  constexpr const char* kWhere = "full_attention_backward";
  const AttentionGrads grads = {ctx.empty_like(q), ctx.empty_like(k), ctx.empty_like(v)};
  const auto rows = [&](const Tensor& x) { return with_unit_last_stride(ctx, x); };
  const Tensor d_out = rows(d_o), queries = rows(q), keys = rows(k), values = rows(v);
  const auto by = backend(ctx).attention_library.full_attention_backward;
  const auto library = [&] {
    const bool by_name = kernels == AttentionKernels::library;
    return by(ctx, d_out, queries, keys, values, o, lse, grads.dq, grads.dk, grads.dv,
              by_name ? std::numeric_limits<std::int64_t>::max() : kMostLibraryMemory);
  };
  if (!done_by_library(ctx, kWhere, kernels, by != nullptr, library))
    backend(ctx).attention.full_attention_backward(ctx, d_out, queries, keys, values, o, lse, grads.dq,
                                                   grads.dk, grads.dv);
  return grads;
}

AttentionFlops full_attention_flops(std::int64_t batch_heads, std::int64_t n, std::int64_t m,
                                    std::int64_t d) {
  const double product = 2.0 * static_cast<double>(batch_heads) * static_cast<double>(n) *
                         static_cast<double>(m) * static_cast<double>(d);
  return {0, 2 * product, 5 * product};
}

}  // namespace llsa::kernels

// Full attention: checks, allocation, and the choice between a library and our own kernels.
#include "kernels/attention.h"

#include <limits>

#include "kernels/backend.h"
#include "kernels/check.h"
#include "kernels/copy.h"

namespace llsa::kernels {
namespace {

/// Memory in bytes that a library may take for a backward pass, unless it was asked for by name.
constexpr std::int64_t kMostLibraryMemory = std::int64_t{1} << 30;

/// Runs call(), which returns why the library declined, if options allow a library and the build has one.
/// Returns whether the library has done the work. Throws DeviceError if it was asked for by name and has not.
template <class Call>
bool done_by_library(Context& ctx, const char* where, AttentionKernels kernels, bool present, Call call) {
  if (kernels == AttentionKernels::own) return false;
  const std::string declined =
      present ? call() : cat("this build has none for the device ", ctx.device().str());
  if (!declined.empty() && kernels == AttentionKernels::library)
    throw DeviceError(cat("[", where, "] no library computes this: ", declined));
  return declined.empty();
}

}  // namespace

AttentionResult empty_attention(Context& ctx, const Tensor& q) {
  const std::int64_t b = q.size(0), h = q.size(1), n = q.size(2), d = q.size(3);
  return {ctx.empty({b, n, h, d}, q.dtype()).transpose(1, 2),  // [b,H,N,D]
          ctx.empty({b, h, n}, accumulator_of(q.dtype()))};
}

AttentionResult full_attention(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                               const FullAttentionOptions& options) {
  constexpr const char* kWhere = "full_attention";
  const Tensor queries = check::heads(ctx, kWhere, {"q", q}), keys = check::heads(ctx, kWhere, {"k", k}),
               values = check::heads(ctx, kWhere, {"v", v});
  check::shape(kWhere, {"k", k}, {q.size(0), q.size(1), k.size(2), q.size(3)});
  check::dtype(kWhere, {"k", k}, q.dtype());
  check::like(kWhere, {"v", v}, {"k", k});
  if (options.causal && k.size(2) < q.size(2))
    throw ShapeError(cat("[", kWhere, "] causal: expected at least as many keys as queries, got ", k.size(2),
                         " keys for ", q.size(2), " queries"),
                     "the last query sees all keys, so the first ones would see none");

  const AttentionResult result = empty_attention(ctx, q);
  const auto library = backend(ctx).attention_library.full_attention;
  if (!done_by_library(ctx, kWhere, options.kernels, library != nullptr, [&] {
        return library(ctx, queries, keys, values, options.causal, result.o, result.lse, kWhere);
      }))
    backend(ctx).attention.full_attention(ctx, queries, keys, values, options.causal, result.o, result.lse);
  return result;
}

AttentionGrads full_attention_backward(Context& ctx, const Tensor& d_o, const Tensor& q, const Tensor& k,
                                       const Tensor& v, const Tensor& o, const Tensor& lse,
                                       const FullAttentionOptions& options) {
  constexpr const char* kWhere = "full_attention_backward";
  const Tensor d_out = check::heads(ctx, kWhere, {"d_o", d_o});
  check::like(kWhere, {"d_o", d_o}, {"o", o});

  const Tensor queries = with_unit_last_stride(ctx, q), keys = with_unit_last_stride(ctx, k),
               values = with_unit_last_stride(ctx, v);
  const AttentionGrads grads = {ctx.empty_like(q), ctx.empty_like(k), ctx.empty_like(v)};
  const std::int64_t most_memory = options.kernels == AttentionKernels::library
                                       ? std::numeric_limits<std::int64_t>::max()
                                       : kMostLibraryMemory;
  const auto library = backend(ctx).attention_library.full_attention_backward;
  if (!done_by_library(ctx, kWhere, options.kernels, library != nullptr, [&] {
        return library(ctx, d_out, queries, keys, values, o, lse, options.causal, most_memory, grads.dq,
                       grads.dk, grads.dv, kWhere);
      }))
    backend(ctx).attention.full_attention_backward(ctx, d_out, queries, keys, values, o, lse, options.causal,
                                                   grads.dq, grads.dk, grads.dv);
  return grads;
}

AttentionFlops full_attention_flops(std::int64_t batch_heads, std::int64_t n, std::int64_t m, std::int64_t d,
                                    bool causal) {
  const auto queries = static_cast<double>(n), keys = static_cast<double>(m);
  const double pairs = causal ? queries * (keys - queries) + queries * (queries + 1) / 2 : queries * keys;
  const double product = 2.0 * static_cast<double>(batch_heads) * pairs * static_cast<double>(d);
  return {0, 2 * product, 5 * product};
}

}  // namespace llsa::kernels

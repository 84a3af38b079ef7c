#include "nn/host.h"

#include "kernels/copy.h"

namespace llsa {

Tensor to_host(Context& ctx, const Tensor& x) {
  if (ctx.device().is_cpu()) return x;
  Context host(1);
  return kernels::transfer(ctx, x, host);
}

Tensor from_host(Context& ctx, const Tensor& x) {
  if (ctx.device().is_cpu()) return x;
  Context host(1);
  return kernels::transfer(host, x, ctx);
}

}  // namespace llsa

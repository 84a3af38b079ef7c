// What the CUDA backend keeps, from call to call, of the libraries that one context uses.
#pragma once

#include <cstdint>
#include <memory>

#include "../copy.h"

namespace llsa::kernels::cuda {

class CublasLt;
class CudnnHandle;
struct AttentionPlans;
struct ConvolutionPlans;

/// Each is made from the context when it is first needed.
struct Libraries {
  std::shared_ptr<CublasLt> cublaslt;
  std::shared_ptr<CudnnHandle> cudnn;
  std::shared_ptr<ConvolutionPlans> convolutions;
  std::shared_ptr<AttentionPlans> attention;

  static Libraries& of(Context& ctx) {
    std::shared_ptr<void>& state = ctx.backend_state();
    if (!state) state = std::make_shared<Libraries>();
    return *static_cast<Libraries*>(state.get());
  }
};

/// A contiguous x, or a copy of it at a multiple of 16 bytes: what tensor cores read, and what not every
/// algorithm of the libraries checks.
inline Tensor aligned(Context& ctx, const Tensor& x) {
  return reinterpret_cast<std::uintptr_t>(x.raw()) % 16 == 0 ? x : kernels::clone(ctx, x);
}

}  // namespace llsa::kernels::cuda

// What the CUDA backend keeps between calls for the libraries that a context uses: handles and plans.
#pragma once

#include <cstdint>
#include <memory>

#include "../copy.h"

namespace llsa::kernels::cuda {

class CublasLt;
class CudnnHandle;
struct AttentionPlans;
struct ConvolutionPlans;

/// Each is made when the context first needs it.
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

/// x, which is contiguous, or a copy of it if its address is no multiple of 16 bytes: tensor cores need that, and
/// not every algorithm of the libraries checks it.
inline Tensor aligned(Context& ctx, const Tensor& x) {
  return reinterpret_cast<std::uintptr_t>(x.raw()) % 16 == 0 ? x : kernels::clone(ctx, x);
}

}  // namespace llsa::kernels::cuda

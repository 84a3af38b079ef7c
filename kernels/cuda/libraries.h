// What the CUDA backend keeps, from call to call, of the libraries that one context uses.
#pragma once

#include <memory>

#include "../../core/context.h"

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

}  // namespace llsa::kernels::cuda

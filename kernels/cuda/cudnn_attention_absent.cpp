// Full attention in a build without cuDNN or without the headers of cudnn-frontend: always our own kernels.
#include "kernels/cuda/cudnn_attention.h"

namespace llsa::kernels::cuda {
namespace {

constexpr const char* kAbsent = "this build has no cuDNN attention";

}  // namespace

std::string cudnn_attention(Context&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                            const Tensor&) {
  return kAbsent;
}

std::string cudnn_attention_backward(Context&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                                     const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                                     const Tensor&, std::int64_t) {
  return kAbsent;
}

}  // namespace llsa::kernels::cuda

#include "nn/attention_text.h"

#include "kernels/llsa_tensor_cores.h"

namespace llsa::nn {

std::string slower_attention_text(const DitConfig& config, Device device, DType dtype) {
  if (!device.is_cuda() || dtype != DType::bf16 || config.attention != AttentionKind::llsa) return "";
  return kernels::plain_kernels_text(kernels::llsa_plan(config.tokens(), config.llsa), config.head_dim,
                                     dtype);
}

}  // namespace llsa::nn

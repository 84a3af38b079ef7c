// What a user is told of how a model's attention will be computed.
#pragma once

#include <string>

#include "../core/device.h"
#include "../core/dtype.h"
#include "dit_config.h"

namespace llsa::nn {

/// "LLSA attention runs on the plain kernels, which are slower: head dimension 48 is not one of 32, 64, 128":
/// for a model that computes in bf16 on a GPU, but not, or not all of it, on tensor cores. Empty otherwise:
/// also in f32 and f64, for which there are plain kernels only, and for full attention. The configuration is
/// resolved (DitConfig::resolved).
std::string slower_attention_text(const DitConfig& config, Device device, DType dtype);

}  // namespace llsa::nn

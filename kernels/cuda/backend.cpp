// The groups of functions of CUDA devices.
#include "kernels/backend.h"

namespace llsa::kernels::cuda {
namespace {

constinit const Backend kGroups = {
    .copy = kCopy,
    .elementwise = kElementwise,
    .reduce = kReduce,
    .index = kIndex,
    .random = kRandom,
    .matmul = kMatmul,
    .conv = kConv,
    .conv_library = kConvLibrary,
    .softmax = kSoftmax,
    .norm = kNorm,
    .rope = kRope,
    .pool = kPool,
    .attention = kAttention,
    .attention_library = kAttentionLibrary,
    .llsa_stages = kLlsaStages,
    .llsa = kLlsa,
    .linear_attention = kLinearAttention,
    .loss = kLoss,
    .diffusion = kDiffusion,
    .optim = kOptim,
    .ceilings = kCeilings,
};

}  // namespace

constinit const Backend* const kBackend = &kGroups;

}  // namespace llsa::kernels::cuda

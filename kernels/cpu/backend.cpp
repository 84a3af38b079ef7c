// The groups of functions of the CPU.
#include "kernels/backend.h"

namespace llsa::kernels::cpu {
namespace {

constexpr ConvLibrary kNoConvLibrary = {};
constexpr AttentionLibrary kNoAttentionLibrary = {};
constexpr CeilingBackend kNoCeilings = {};

}  // namespace

constinit const Backend kBackend = {
    .copy = kCopy,
    .elementwise = kElementwise,
    .reduce = kReduce,
    .index = kIndex,
    .random = kRandom,
    .matmul = kMatmul,
    .conv = kConv,
    .conv_library = kNoConvLibrary,
    .softmax = kSoftmax,
    .norm = kNorm,
    .rope = kRope,
    .pool = kPool,
    .attention = kAttention,
    .attention_library = kNoAttentionLibrary,
    .llsa_stages = kLlsaStages,
    .llsa = kLlsa,
    .linear_attention = kLinearAttention,
    .loss = kLoss,
    .diffusion = kDiffusion,
    .optim = kOptim,
    .ceilings = kNoCeilings,
};

}  // namespace llsa::kernels::cpu

// Full attention in a build without cuDNN or without the headers of cudnn-frontend: always our own kernels.
#include "kernels/backend/attention.h"

namespace llsa::kernels::cuda {

constinit const AttentionLibrary kAttentionLibrary = {};

}  // namespace llsa::kernels::cuda

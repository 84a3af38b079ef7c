// In the place of kernels/cuda/ in a build without CUDA.
#include "kernels/backend.h"

namespace llsa::kernels::cuda {

constinit const Backend* const kBackend = nullptr;

}  // namespace llsa::kernels::cuda

#include "kernels/cuda/cudnn.h"

#include <array>

#include "core/cuda/check.h"
#include "core/error.h"
#include "kernels/cuda/libraries.h"

namespace llsa::kernels::cuda {

cudnnHandle_t CudnnHandle::of(Context& ctx) {
  std::shared_ptr<CudnnHandle>& own = Libraries::of(ctx).cudnn;
  if (!own) own = std::make_shared<CudnnHandle>(ctx);
  static_cast<void>(
      ctx.stream());  // the handle belongs to the context's device, which becomes the current one
  return own->handle_;
}

CudnnHandle::CudnnHandle(Context& ctx) {
  auto* const stream = static_cast<cudaStream_t>(ctx.stream());
  check(LLSA_CALL(cudnnCreate(&handle_)));
  try {
    check(LLSA_CALL(cudnnSetStream(handle_, stream)));
  } catch (...) {
    static_cast<void>(cudnnDestroy(handle_));
    throw;
  }
}

CudnnHandle::~CudnnHandle() { static_cast<void>(cudnnDestroy(handle_)); }

std::string hint_for(cudnnStatus_t status) {
  constexpr const char* kOff = ", or build without it (LLSA_CUDNN=OFF)";
  switch (status) {
    case CUDNN_STATUS_NOT_INITIALIZED:
      return "cuDNN could not start: is the NVIDIA driver older than it, or the device's memory full? "
             "(nvidia-smi shows both)";
    case CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH:
    case CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED:
      return cat("parts of the installed cuDNN are missing or of different versions: install it anew", kOff);
    case CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH:
      return cat("the installed cuDNN has no kernels for this GPU: install a newer one", kOff);
    case CUDNN_STATUS_NOT_SUPPORTED_INCOMPATIBLE_CUDA_DRIVER:
    case CUDNN_STATUS_NOT_SUPPORTED_INCOMPATIBLE_CUDART:
      return cat("the installed cuDNN is for another CUDA: update the NVIDIA driver or cuDNN", kOff);
    case CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED:
    case CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED:
      return llsa::cuda::hint_for(cudaErrorMemoryAllocation);
    default:
      break;
  }
  if (refused(status)) return cat("the installed cuDNN cannot do this: install a newer one", kOff);
  if (CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_EXECUTION_FAILED) return llsa::cuda::kEarlierCommandHint;
  return "with CUDNN_LOGLEVEL_DBG=1 and CUDNN_LOGDEST_DBG=stderr in the environment the library says more";
}

void check(cudnnStatus_t status, const llsa::cuda::Command& command, const char* where,
           const std::string& operands) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  std::array<char, 1024> details = {};
  cudnnGetLastErrorString(details.data(), details.size());
  details.back() = '\0';
  llsa::cuda::library_failed(
      where, command, operands,
      cat(cudnnGetErrorString(status), details.front() == '\0' ? "" : ", ", details.data()),
      hint_for(status));
}

}  // namespace llsa::kernels::cuda

// The cuDNN handle of a context, and failed calls as exceptions. For files compiled with cuDNN's headers
// only.
#pragma once

#include <cudnn.h>

#include <string>

#include "../../core/context.h"

namespace llsa::kernels::cuda {

class CudnnHandle {
 public:
  /// The one of this context, made at its first call; what is done through it goes to the context's stream.
  static cudnnHandle_t of(Context& ctx);

  explicit CudnnHandle(Context& ctx);
  ~CudnnHandle();
  CudnnHandle(const CudnnHandle&) = delete;
  CudnnHandle& operator=(const CudnnHandle&) = delete;

 private:
  cudnnHandle_t handle_ = nullptr;
};

/// Throws CudaError with the call, what it was made for (may be empty), and what the library says about it.
void check_cudnn(cudnnStatus_t status, const char* where, const char* call, const std::string& what);

/// Whether the library says that it cannot do this, and not that something went wrong.
inline bool refused(cudnnStatus_t status) {
  return CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_NOT_SUPPORTED;
}

}  // namespace llsa::kernels::cuda

// The cuDNN handle of a context, and failed calls as exceptions. For files compiled with cuDNN's headers
// only.
#pragma once

#include <cudnn.h>

#include <string>

#include "../../core/context.h"
#include "../../core/cuda/check.h"

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

/// What a user can do about a status.
std::string hint_for(cudnnStatus_t status);

/// Throws CudaError (core/cuda/check.h) for a failed call of the library, made for these operands (may be
/// empty).
void check(cudnnStatus_t status, const llsa::cuda::Command& command, const char* where = "cudnn",
           const std::string& operands = "");

/// Whether the library says that it cannot do this, and not that something went wrong.
inline bool refused(cudnnStatus_t status) {
  return CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_NOT_SUPPORTED;
}

}  // namespace llsa::kernels::cuda

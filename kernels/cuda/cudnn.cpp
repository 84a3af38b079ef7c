#include "kernels/cuda/cudnn.h"

#include <array>

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
  check_cudnn(cudnnCreate(&handle_), "cudnn", "cudnnCreate", "");
  const cudnnStatus_t status = cudnnSetStream(handle_, stream);
  if (status == CUDNN_STATUS_SUCCESS) return;
  static_cast<void>(cudnnDestroy(handle_));
  check_cudnn(status, "cudnn", "cudnnSetStream", "");
}

CudnnHandle::~CudnnHandle() { static_cast<void>(cudnnDestroy(handle_)); }

void check_cudnn(cudnnStatus_t status, const char* where, const char* call, const std::string& what) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  std::array<char, 1024> details = {};
  cudnnGetLastErrorString(details.data(), details.size());
  details.back() = '\0';
  throw CudaError(cat("[", where, "] ", call, " failed", what.empty() ? "" : " for ", what, ": ",
                      cudnnGetErrorString(status), details.front() == '\0' ? "" : ", ", details.data()));
}

}  // namespace llsa::kernels::cuda

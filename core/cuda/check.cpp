#include "core/cuda/check.h"

#include <string>
#include <string_view>

#include "core/error.h"

namespace llsa::cuda {
namespace {

/// Errors after which every later call of the process fails with the same error.
bool is_sticky(cudaError_t status) {
  switch (status) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorMpsClientTerminated:
      return true;
    default:
      return false;
  }
}

/// The path from the repository's root on, whatever the build made of __FILE__.
std::string_view short_path(std::string_view file) {
  for (const std::string_view root : {"/tests/", "/kernels/", "/core/"}) {
    const std::size_t at = file.rfind(root);
    if (at != std::string_view::npos) return file.substr(at + 1);
  }
  return file;
}

}  // namespace

std::string hint_for(cudaError_t status) {
  if (is_sticky(status))
    return "the device no longer serves this process: start the program again, from its last checkpoint; "
           "with "
           "CUDA_LAUNCH_BLOCKING=1 in the environment the failing command is named";
  switch (status) {
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
      return "the program was not compiled for this GPU and driver: build it there with CUDA_ARCHS=native";
    case cudaErrorDevicesUnavailable:
      return "another process may hold the device for itself (nvidia-smi lists them): end it, or use the "
             "device cpu";
    case cudaErrorMemoryAllocation:
      return "reduce the batch or the image size, or end other programs that use this memory";
    default:
      return "";
  }
}

void check(cudaError_t status, const char* call, const char* file, int line) {
  if (status == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());  // an error that is not sticky must not be reported twice
  throw CudaError(cat("[cuda] ", call, " failed at ", short_path(file), ":", line, ": ",
                      cudaGetErrorString(status), " (", cudaGetErrorName(status), ")"),
                  hint_for(status));
}

}  // namespace llsa::cuda

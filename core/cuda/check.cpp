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

void check(cudaError_t status, const char* call, const char* file, int line) {
  if (status == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());  // an error that is not sticky must not be reported twice
  throw CudaError(cat("[cuda] ", call, " failed at ", short_path(file), ":", line, ": ",
                      cudaGetErrorString(status), " (", cudaGetErrorName(status), ")"),
                  is_sticky(status) ? "the device no longer serves this process: start the program again, "
                                      "from its last checkpoint; with "
                                      "CUDA_LAUNCH_BLOCKING=1 in the environment the failing command is named"
                                    : "");
}

}  // namespace llsa::cuda

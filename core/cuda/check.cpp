#include "core/cuda/check.h"

#include <cxxabi.h>

#include <cstdlib>
#include <memory>
#include <string_view>

namespace llsa::cuda {
namespace {

/// Errors after which every later call of the process fails with the same error.
bool is_sticky(cudaError_t status) {
  switch (static_cast<int>(status)) {
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
    case 226:  // cudaErrorContained, which not every CUDA 12 has
    case 721:  // cudaErrorTensorMemoryLeak, likewise
    case 911:  // cudaErrorExternalDevice, likewise
      return true;
    default:
      return false;
  }
}

std::string describe(cudaError_t status) {
  return cat(cudaGetErrorString(status), " (", cudaGetErrorName(status), ")");
}

/// "llsa::f<64>" for "_ZN4llsa1fILi64EEEvi": the name without return type and parameters. Other texts stay as
/// they are.
std::string readable(const char* mangled) {
  int failed = 0;
  const std::unique_ptr<char, void (*)(void*)> full(abi::__cxa_demangle(mangled, nullptr, nullptr, &failed),
                                                    std::free);
  if (failed != 0 || full == nullptr) return mangled;
  std::string_view name = full.get();
  // Read from the end. The parameters lie between the last matching parentheses. Before them, a space outside of
  // all brackets ends the return type.
  const auto back_over = [&](char open, char close) {
    int depth = 0;
    std::size_t at = name.size();
    while (at > 0) {
      --at;
      depth += name[at] == close ? 1 : name[at] == open ? -1 : 0;
      if (depth == 0) break;
    }
    return at;
  };
  if (name.ends_with(')')) name = name.substr(0, back_over('(', ')'));
  int depth = 0;
  for (std::size_t at = name.size(); at > 0; --at) {
    const char c = name[at - 1];
    depth += c == '>' || c == ')' ? 1 : c == '<' || c == '(' ? -1 : 0;
    if (c == ' ' && depth == 0) return std::string(name.substr(at));
  }
  return std::string(name);
}

std::string shape(dim3 d) { return cat("(", d.x, ", ", d.y, ", ", d.z, ")"); }

/// Says so if the launch asked for more shared memory than the current device has for a block.
std::string hint_about_memory(std::size_t shared_bytes) {
  int device = 0, most = 0;
  const bool known =
      cudaGetDevice(&device) == cudaSuccess &&
      cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) == cudaSuccess;
  static_cast<void>(cudaGetLastError());
  if (!known || shared_bytes <= static_cast<std::size_t>(most)) return "";
  return cat("this GPU has ", most,
             " bytes of shared memory for a block: use smaller heads or blocks, or a GPU that has more");
}

}  // namespace

std::string Place::str() const {
  // The part of a path before the root of the repository, which is the same for all files.
  constexpr std::string_view kThisFile = "core/cuda/check.cpp";
  std::string_view root = __FILE__, name = file == nullptr ? "?" : file;
  root.remove_suffix(root.ends_with(kThisFile) ? kThisFile.size() : root.size());
  if (name.starts_with(root)) name.remove_prefix(root.size());
  return cat(name, ":", line);
}

std::string hint_for(cudaError_t status) {
  if (is_sticky(status))
    return "the device no longer serves this process: start the program again, from its last checkpoint; "
           "with CUDA_LAUNCH_BLOCKING=1 in the environment the failing command is named";
  switch (status) {
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorUnsupportedPtxVersion:
      return "the program was not compiled for this GPU and driver: build it there with CUDA_ARCHS=native";
    case cudaErrorDevicesUnavailable:
      return "another process may hold the device for itself (nvidia-smi lists them): end it, or use the "
             "device cpu";
    case cudaErrorMemoryAllocation:
      return "reduce the batch or the image size, or end other programs that use this memory";
    case cudaErrorLaunchOutOfResources:
      return "this GPU has fewer registers or less shared memory than the kernel needs: use smaller heads or "
             "blocks, or dtype f32, whose kernels need less";
    case cudaErrorSystemNotReady:
      return "the driver is not ready: where GPUs are joined by NVSwitch, the service "
             "nvidia-fabricmanager has to run";
    case cudaErrorSystemDriverMismatch:
      return "parts of the NVIDIA driver are of different versions: restart the machine, or install it anew";
    default:
      return "";
  }
}

void check(cudaError_t status, const Command& command) {
  if (status == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());  // otherwise the next call would report it again
  throw CudaError(cat("[cuda] ", command.text, " failed at ", command.place.str(), ": ", describe(status)),
                  hint_for(status));
}

void launch_failed(cudaError_t status, const char* kernel, dim3 grid, dim3 block, std::size_t shared_bytes,
                   const Place& place) {
  static_cast<void>(cudaGetLastError());
  std::string hint = hint_for(status);
  if (!is_sticky(status))
    if (const std::string memory = hint_about_memory(shared_bytes); !memory.empty()) hint = memory;
  const std::string name = kernel[0] == '\0' ? "a kernel" : readable(kernel);
  throw CudaError(cat("[launch] ", name, " failed at ", place.str(), " with grid ", shape(grid), ", block ",
                      shape(block), ", ", shared_bytes, " bytes of shared memory: ", describe(status)),
                  hint);
}

void library_failed(const char* where, const Command& command, const std::string& operands,
                    const std::string& status, const std::string& hint) {
  // A library contains a runtime of its own, so our runtime has not seen the error yet and has to ask for it. During
  // a capture this fails, which does no harm.
  const cudaError_t device = cudaDeviceSynchronize();
  static_cast<void>(cudaGetLastError());
  const bool broken = is_sticky(device);
  throw CudaError(
      cat("[", where, "] ", command.text, " failed at ", command.place.str(), operands.empty() ? "" : " for ",
          operands, ": ", status, broken ? cat("; the device reports: ", describe(device)) : ""),
      broken ? hint_for(device) : hint);
}

}  // namespace llsa::cuda

// The CUDA runtime over plain memory: what the host code of the backend calls, with the real signatures. Here:
// devices, errors, and what tests wish to happen. cuda_memory.cpp has memory, cuda_streams.cpp streams and
// events, graph.cpp captures.
//
// All work is done at once, in call order, so streams and events order nothing; they are checked for being
// what the program created. What is put into a stream that is being captured is kept for the replays of its
// graph instead.
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <mutex>
#include <string>

#include "tests/emu/cuda_objects.h"
#include "tests/emu/device_state.h"
#include "tests/emu/emulator.h"
#include "tests/emu/shared.h"

namespace llsa::emu {
namespace {

thread_local cudaError_t last_error = cudaSuccess;

}  // namespace

Device& device() {
  static Device d;
  return d;
}

cudaError_t result(cudaError_t error) {
  if (device().broken != cudaSuccess) error = device().broken;
  if (error != cudaSuccess) last_error = error;
  return error;
}

std::size_t shared_memory_of_block() { return device().shared_memory; }

void set_device_memory(std::size_t bytes) {
  const std::lock_guard lock(device().mutex);
  device().limit = bytes;
}

std::size_t device_bytes_in_use() {
  const std::lock_guard lock(device().mutex);
  return device().in_use;
}

void set_device_count(int count) {
  const std::lock_guard lock(device().mutex);
  device().count = count;
}

void set_driver_version(int version) {
  const std::lock_guard lock(device().mutex);
  device().driver = version;
}

void set_compute_capability(int major) {
  const std::lock_guard lock(device().mutex);
  device().major = major;
}

void set_shared_memory(std::size_t bytes) {
  const std::lock_guard lock(device().mutex);
  device().shared_memory = std::min(bytes, SharedMemory::kMax);
}

void break_device(int error) {
  const std::lock_guard lock(device().mutex);
  device().broken = static_cast<cudaError_t>(error);
  if (error == cudaSuccess) last_error = cudaSuccess;
}

void fail_next(const std::string& function, int status, int device_error) {
  const std::lock_guard lock(device().mutex);
  device().wish = {function, status, device_error};
}

cudaError_t device_error() { return device().broken; }

int requested_failure(const char* function) {
  int status = 0, device_error = 0;
  {
    const std::lock_guard lock(device().mutex);
    auto& wish = device().wish;
    if (wish.function != function) return 0;
    status = wish.status;
    device_error = wish.device_error;
    wish = {};
  }
  if (device_error != 0) break_device(device_error);
  return status;
}

void advance_device_clock(double milliseconds) {
  const std::lock_guard lock(device().mutex);
  device().ahead +=
      std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double, std::milli>(milliseconds));
}

}  // namespace llsa::emu

using llsa::emu::device;
using llsa::emu::last_error;
using llsa::emu::result;

extern "C" {

// ---- devices ------------------------------------------------------------------------------------------

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  if (device().driver < CUDART_VERSION) return result(cudaErrorInsufficientDriver);
  *count = device().count;
  return result(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int index) {
  return result(index >= 0 && index < device().count ? cudaSuccess : cudaErrorInvalidDevice);
}
cudaError_t cudaGetDevice(int* index) {
  *index = 0;
  return result(device().count > 0 ? cudaSuccess : cudaErrorNoDevice);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int index) {
  if (index < 0 || index >= device().count) return result(cudaErrorInvalidDevice);
  *properties = {};
  std::strcpy(properties->name, "CPU emulation");
  properties->major = device().major;
  properties->minor = 0;
  properties->multiProcessorCount = 4;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->totalGlobalMem = llsa::emu::kTotalMemory;
  properties->sharedMemPerBlock = llsa::emu::SharedMemory::kMaxStatic;
  properties->sharedMemPerBlockOptin = llsa::emu::shared_memory_of_block();
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int index) {
  if (index < 0 || index >= device().count) return result(cudaErrorInvalidDevice);
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
      *value = device().major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = 0;
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      *value = 4;
      return cudaSuccess;
    case cudaDevAttrWarpSize:
      *value = 32;
      return cudaSuccess;
    case cudaDevAttrMaxThreadsPerBlock:
      *value = 1024;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = llsa::emu::SharedMemory::kMaxStatic;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(llsa::emu::shared_memory_of_block());
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(llsa::emu::shared_memory_of_block()) + 1024;
      return cudaSuccess;
    case cudaDevAttrPageableMemoryAccessUsesHostPageTables:
      *value = 0;
      return cudaSuccess;
    default:
      return result(cudaErrorInvalidValue);
  }
}
cudaError_t cudaDeviceSynchronize() { return result(llsa::emu::safe_beside_capture()); }
cudaError_t cudaDriverGetVersion(int* version) {
  *version = device().driver;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

// ---- errors -------------------------------------------------------------------------------------------

cudaError_t cudaGetLastError() {
  if (device().broken != cudaSuccess) return device().broken;
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}
cudaError_t cudaPeekAtLastError() { return last_error; }
const char* cudaGetErrorName(cudaError_t error) {
  if (const char* const name = llsa::emu::capture_error_name(error)) return name;
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorInsufficientDriver:
      return "cudaErrorInsufficientDriver";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    case cudaErrorLaunchOutOfResources:
      return "cudaErrorLaunchOutOfResources";
    case cudaErrorNoKernelImageForDevice:
      return "cudaErrorNoKernelImageForDevice";
    default:
      return "cudaError";
  }
}
const char* cudaGetErrorString(cudaError_t error) {
  if (const char* const text = llsa::emu::capture_error_string(error)) return text;
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInvalidResourceHandle:
      return "invalid resource handle";
    case cudaErrorNotReady:
      return "device not ready";
    case cudaErrorInsufficientDriver:
      return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
    case cudaErrorLaunchOutOfResources:
      return "too many resources requested for launch";
    case cudaErrorNoKernelImageForDevice:
      return "no kernel image is available for execution on the device";
    default:
      return "unknown error";
  }
}

}  // extern "C"

// The CUDA runtime over plain memory: what the host code of the backend calls, with the real signatures.
//
// All work is done at once, in call order, so streams and events order nothing; they are checked for being
// what the program created. Allocations have exactly the size that was asked for and begin as NaN; copies
// to and from device memory are checked against them.
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>

#include "tests/emu/cuda_objects.h"
#include "tests/emu/emulator.h"
#include "tests/emu/shared.h"

namespace llsa::emu {
namespace {

using Clock = std::chrono::steady_clock;

struct Event {
  bool recorded = false;
  Clock::time_point time;
};

/// Everything that exists on the emulated device.
struct Device {
  std::mutex mutex;
  std::map<const unsigned char*, std::size_t> allocations;
  std::set<const void*> streams;
  std::set<const void*> events;
  std::size_t limit = 0, in_use = 0;
  int count = 1;
  int driver = CUDART_VERSION, major = 9;
  cudaError_t broken = cudaSuccess;
  Clock::duration ahead{};  // of the host's clock
};

Device& device() {
  static Device d;
  return d;
}

thread_local cudaError_t last_error = cudaSuccess;

cudaError_t result(cudaError_t error) {
  if (device().broken != cudaSuccess) error = device().broken;
  if (error != cudaSuccess) last_error = error;
  return error;
}

constexpr std::size_t kTotalMemory = std::size_t{16} << 30;

// The allocation that holds p, or end(). The mutex is held.
auto allocation_of(Device& d, const void* p) {
  const auto* const bytes = static_cast<const unsigned char*>(p);
  auto found = d.allocations.upper_bound(bytes);
  if (found == d.allocations.begin()) return d.allocations.end();
  --found;
  return bytes < found->first + std::max<std::size_t>(found->second, 1) ? found : d.allocations.end();
}

bool is_device(const void* p, std::size_t bytes) {
  Device& d = device();
  const std::lock_guard lock(d.mutex);
  const auto found = allocation_of(d, p);
  return found != d.allocations.end() &&
         static_cast<const unsigned char*>(p) + bytes <= found->first + found->second;
}

bool overlaps_device(const void* p) {
  Device& d = device();
  const std::lock_guard lock(d.mutex);
  return allocation_of(d, p) != d.allocations.end();
}

cudaError_t copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  if (bytes == 0) return cudaSuccess;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (kind != cudaMemcpyDefault) {
    if (to_device ? !is_device(to, bytes) : overlaps_device(to)) return result(cudaErrorInvalidValue);
    if (from_device ? !is_device(from, bytes) : overlaps_device(from)) return result(cudaErrorInvalidValue);
  }
  std::memmove(to, from, bytes);
  return cudaSuccess;
}

cudaError_t set(void* p, int value, std::size_t bytes) {
  if (bytes == 0) return cudaSuccess;
  if (!is_device(p, bytes)) return result(cudaErrorInvalidValue);
  std::memset(p, value, bytes);
  return cudaSuccess;
}

cudaError_t on(cudaStream_t stream) {
  return result(is_stream(stream) ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

bool is_event(cudaEvent_t event) {
  Device& d = device();
  const std::lock_guard lock(d.mutex);
  return d.events.contains(event);
}

}  // namespace

bool is_stream(cudaStream_t stream) {
  if (stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread) return true;
  Device& d = device();
  const std::lock_guard lock(d.mutex);
  return d.streams.contains(stream);
}

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

void break_device(int error) {
  const std::lock_guard lock(device().mutex);
  device().broken = static_cast<cudaError_t>(error);
  if (error == cudaSuccess) last_error = cudaSuccess;
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
  properties->sharedMemPerBlockOptin = llsa::emu::SharedMemory::kMax;
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
      *value = 48 * 1024;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = 227 * 1024;
      return cudaSuccess;
    default:
      return result(cudaErrorInvalidValue);
  }
}
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
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
    default:
      return "cudaError";
  }
}
const char* cudaGetErrorString(cudaError_t error) {
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
    default:
      return "unknown error";
  }
}

// ---- memory -------------------------------------------------------------------------------------------

cudaError_t cudaMalloc(void** p, std::size_t bytes) {
  *p = nullptr;
  if (bytes == 0) return cudaSuccess;
  auto& d = device();
  const std::lock_guard lock(d.mutex);
  if (d.broken != cudaSuccess) return d.broken;
  if (d.limit > 0 && (bytes > d.limit || d.in_use > d.limit - bytes))
    return result(cudaErrorMemoryAllocation);
  if (bytes > llsa::emu::kTotalMemory || posix_memalign(p, 256, bytes) != 0)
    return result(cudaErrorMemoryAllocation);
  std::memset(*p, 0xff, bytes);
  d.allocations[static_cast<unsigned char*>(*p)] = bytes;
  d.in_use += bytes;
  return cudaSuccess;
}
cudaError_t cudaFree(void* p) {
  if (!p) return cudaSuccess;
  auto& d = device();
  const std::lock_guard lock(d.mutex);
  const auto found = d.allocations.find(static_cast<unsigned char*>(p));
  if (found == d.allocations.end()) return result(cudaErrorInvalidValue);
  d.in_use -= found->second;
  d.allocations.erase(found);
  std::free(p);
  return result(cudaSuccess);
}
cudaError_t cudaMallocAsync(void** p, std::size_t bytes, cudaStream_t stream) {
  const cudaError_t error = llsa::emu::on(stream);
  return error == cudaSuccess ? cudaMalloc(p, bytes) : error;
}
cudaError_t cudaFreeAsync(void* p, cudaStream_t stream) {
  const cudaError_t error = llsa::emu::on(stream);
  return error == cudaSuccess ? cudaFree(p) : error;
}
cudaError_t cudaMallocHost(void** p, std::size_t bytes) {
  *p = std::malloc(std::max<std::size_t>(bytes, 1));
  return result(*p ? cudaSuccess : cudaErrorMemoryAllocation);
}
cudaError_t cudaHostAlloc(void** p, std::size_t bytes, unsigned) { return cudaMallocHost(p, bytes); }
cudaError_t cudaFreeHost(void* p) {
  std::free(p);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* total) {
  auto& d = device();
  const std::lock_guard lock(d.mutex);
  *total = d.limit > 0 ? d.limit : llsa::emu::kTotalMemory;
  *free_bytes = *total - std::min(*total, d.in_use);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  return llsa::emu::copy(to, from, bytes, kind);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const cudaError_t error = llsa::emu::on(stream);
  return error == cudaSuccess ? llsa::emu::copy(to, from, bytes, kind) : error;
}
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  if (const cudaError_t error = llsa::emu::on(stream); error != cudaSuccess) return error;
  for (std::size_t row = 0; row < height; ++row) {
    const cudaError_t error = llsa::emu::copy(static_cast<char*>(to) + row * to_pitch,
                                              static_cast<const char*>(from) + row * from_pitch, width, kind);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}
cudaError_t cudaMemset(void* p, int value, std::size_t bytes) { return llsa::emu::set(p, value, bytes); }
cudaError_t cudaMemsetAsync(void* p, int value, std::size_t bytes, cudaStream_t stream) {
  const cudaError_t error = llsa::emu::on(stream);
  return error == cudaSuccess ? llsa::emu::set(p, value, bytes) : error;
}

// ---- streams and events -------------------------------------------------------------------------------

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  auto& d = device();
  const std::lock_guard lock(d.mutex);
  *stream = reinterpret_cast<cudaStream_t>(new char);
  d.streams.insert(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  auto& d = device();
  const std::lock_guard lock(d.mutex);
  if (d.streams.erase(stream) == 0) return result(cudaErrorInvalidResourceHandle);
  delete reinterpret_cast<char*>(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return llsa::emu::on(stream); }
cudaError_t cudaStreamQuery(cudaStream_t stream) { return llsa::emu::on(stream); }
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = cudaStreamCaptureStatusNone;
  return llsa::emu::on(stream);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  auto& d = device();
  const std::lock_guard lock(d.mutex);
  *event = reinterpret_cast<cudaEvent_t>(new llsa::emu::Event);
  d.events.insert(*event);
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  auto& d = device();
  const std::lock_guard lock(d.mutex);
  if (d.events.erase(event) == 0) return result(cudaErrorInvalidResourceHandle);
  delete reinterpret_cast<llsa::emu::Event*>(event);
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (const cudaError_t error = llsa::emu::on(stream); error != cudaSuccess) return error;
  if (!llsa::emu::is_event(event)) return result(cudaErrorInvalidResourceHandle);
  auto& d = device();
  const std::lock_guard lock(d.mutex);
  *reinterpret_cast<llsa::emu::Event*>(event) = {true, llsa::emu::Clock::now() + d.ahead};
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return result(llsa::emu::is_event(event) ? cudaSuccess : cudaErrorInvalidResourceHandle);
}
cudaError_t cudaEventQuery(cudaEvent_t event) { return cudaEventSynchronize(event); }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const cudaError_t error = llsa::emu::on(stream);
  return error == cudaSuccess ? cudaEventSynchronize(event) : error;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  if (!llsa::emu::is_event(start) || !llsa::emu::is_event(end)) return result(cudaErrorInvalidResourceHandle);
  const auto& a = *reinterpret_cast<llsa::emu::Event*>(start);
  const auto& b = *reinterpret_cast<llsa::emu::Event*>(end);
  if (!a.recorded || !b.recorded) return result(cudaErrorInvalidResourceHandle);
  *milliseconds = std::chrono::duration<float, std::milli>(b.time - a.time).count();
  return cudaSuccess;
}

}  // extern "C"

// The CUDA runtime over plain memory: what the host code of the backend calls, with the real signatures.
//
// All work is done at once, in call order, so streams and events order nothing; they are checked for being
// what the program created. What is put into a stream that is being captured is kept for the replays of its
// graph instead (graph.cpp). Allocations have exactly the size that was asked for and begin as NaN; copies
// to and from device memory are checked against them.
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>

#include "tests/emu/cuda_objects.h"
#include "tests/emu/emulator.h"
#include "tests/emu/shared.h"

namespace llsa::emu {
namespace {

using Clock = std::chrono::steady_clock;

struct Event {
  bool recorded = false;
  bool captured = false;  // last recorded in a stream that was being captured
  Clock::time_point time;
};

/// Everything that exists on the emulated device.
struct Device {
  std::mutex mutex;
  std::map<const unsigned char*, std::size_t> allocations;
  std::map<const unsigned char*, std::size_t> pinned;  // host memory
  std::set<const void*> streams;
  std::set<const void*> events;
  std::size_t limit = 0, in_use = 0;
  int count = 1;
  int driver = CUDART_VERSION, major = 9;
  cudaError_t broken = cudaSuccess;
  struct {
    std::string function;
    int status = 0, device_error = 0;
  } wish;                   // of fail_next()
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

using Ranges = std::map<const unsigned char*, std::size_t>;

// The range that holds p, or end(). The mutex is held.
Ranges::const_iterator range_of(const Ranges& ranges, const void* p) {
  const auto* const bytes = static_cast<const unsigned char*>(p);
  auto found = ranges.upper_bound(bytes);
  if (found == ranges.begin()) return ranges.end();
  --found;
  return bytes < found->first + std::max<std::size_t>(found->second, 1) ? found : ranges.end();
}

// Whether the bytes lie in one of these ranges.
bool within(const Ranges& ranges, const void* p, std::size_t bytes) {
  const std::lock_guard lock(device().mutex);
  const auto found = range_of(ranges, p);
  return found != ranges.end() &&
         static_cast<const unsigned char*>(p) + bytes <= found->first + found->second;
}

bool is_device(const void* p, std::size_t bytes) { return within(device().allocations, p, bytes); }

bool overlaps_device(const void* p) {
  const std::lock_guard lock(device().mutex);
  return range_of(device().allocations, p) != device().allocations.end();
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

// In a stream that is being captured, copies take device memory and pinned memory alone.
cudaError_t copy_in(cudaStream_t stream, void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  if (is_capturing(stream)) {
    for (const void* const p : {static_cast<const void*>(to), from}) {
      if (bytes == 0 || is_device(p, bytes) || within(device().pinned, p, bytes)) continue;
      return result(outside_capture(stream));
    }
  }
  return result(enqueue(stream, [=] { return copy(to, from, bytes, kind); }));
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

// For calls that a stream which is being captured does not take.
cudaError_t beside(cudaStream_t stream) {
  if (!is_stream(stream)) return result(cudaErrorInvalidResourceHandle);
  const cudaError_t error = outside_capture(stream);
  return result(error == cudaSuccess ? safe_beside_capture() : error);
}

bool is_event(cudaEvent_t event) {
  Device& d = device();
  const std::lock_guard lock(d.mutex);
  return d.events.contains(event);
}

Event& real(cudaEvent_t event) { return *reinterpret_cast<Event*>(event); }

// What waiting for an event, or asking for it, returns.
cudaError_t look_at(cudaEvent_t event) {
  if (!is_event(event)) return result(cudaErrorInvalidResourceHandle);
  if (real(event).captured) return result(cudaErrorCapturedEvent);
  return result(safe_beside_capture());
}

cudaError_t allocate(void** p, std::size_t bytes) {
  *p = nullptr;
  if (bytes == 0) return cudaSuccess;
  Device& d = device();
  const std::lock_guard lock(d.mutex);
  if (d.broken != cudaSuccess) return d.broken;
  if (d.limit > 0 && (bytes > d.limit || d.in_use > d.limit - bytes))
    return result(cudaErrorMemoryAllocation);
  if (bytes > kTotalMemory || posix_memalign(p, 256, bytes) != 0) return result(cudaErrorMemoryAllocation);
  std::memset(*p, 0xff, bytes);
  d.allocations[static_cast<unsigned char*>(*p)] = bytes;
  d.in_use += bytes;
  return cudaSuccess;
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

// ---- memory -------------------------------------------------------------------------------------------

cudaError_t cudaMalloc(void** p, std::size_t bytes) {
  *p = nullptr;
  const cudaError_t error = llsa::emu::safe_beside_capture();
  return error == cudaSuccess ? llsa::emu::allocate(p, bytes) : result(error);
}
cudaError_t cudaFree(void* p) {
  if (!p) return cudaSuccess;
  if (const cudaError_t error = llsa::emu::safe_beside_capture(); error != cudaSuccess) return result(error);
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
  const cudaError_t error = llsa::emu::beside(stream);
  return error == cudaSuccess ? cudaMalloc(p, bytes) : error;
}
cudaError_t cudaFreeAsync(void* p, cudaStream_t stream) {
  const cudaError_t error = llsa::emu::beside(stream);
  return error == cudaSuccess ? cudaFree(p) : error;
}
cudaError_t cudaMallocHost(void** p, std::size_t bytes) {
  *p = nullptr;
  if (const cudaError_t error = llsa::emu::safe_beside_capture(); error != cudaSuccess) return result(error);
  *p = std::malloc(std::max<std::size_t>(bytes, 1));
  if (!*p) return result(cudaErrorMemoryAllocation);
  const std::lock_guard lock(device().mutex);
  device().pinned[static_cast<unsigned char*>(*p)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** p, std::size_t bytes, unsigned) { return cudaMallocHost(p, bytes); }
cudaError_t cudaFreeHost(void* p) {
  if (!p) return cudaSuccess;
  if (const cudaError_t error = llsa::emu::safe_beside_capture(); error != cudaSuccess) return result(error);
  const std::lock_guard lock(device().mutex);
  if (device().pinned.erase(static_cast<unsigned char*>(p)) == 0) return result(cudaErrorInvalidValue);
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
  const cudaError_t error = llsa::emu::safe_beside_capture();
  return error == cudaSuccess ? llsa::emu::copy(to, from, bytes, kind) : result(error);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const cudaError_t error = llsa::emu::on(stream);
  return error == cudaSuccess ? llsa::emu::copy_in(stream, to, from, bytes, kind) : error;
}
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  if (const cudaError_t error = llsa::emu::on(stream); error != cudaSuccess) return error;
  for (std::size_t row = 0; row < height; ++row) {
    const cudaError_t error =
        llsa::emu::copy_in(stream, static_cast<char*>(to) + row * to_pitch,
                           static_cast<const char*>(from) + row * from_pitch, width, kind);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}
cudaError_t cudaMemset(void* p, int value, std::size_t bytes) {
  const cudaError_t error = llsa::emu::safe_beside_capture();
  return error == cudaSuccess ? llsa::emu::set(p, value, bytes) : result(error);
}
cudaError_t cudaMemsetAsync(void* p, int value, std::size_t bytes, cudaStream_t stream) {
  const cudaError_t error = llsa::emu::on(stream);
  if (error != cudaSuccess) return error;
  return result(llsa::emu::enqueue(stream, [=] { return llsa::emu::set(p, value, bytes); }));
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
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return llsa::emu::beside(stream); }
cudaError_t cudaStreamQuery(cudaStream_t stream) { return llsa::emu::beside(stream); }

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
  const bool captured = llsa::emu::is_capturing(stream);
  auto& d = device();
  const std::lock_guard lock(d.mutex);
  llsa::emu::real(event) = {true, captured, llsa::emu::Clock::now() + d.ahead};
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return llsa::emu::look_at(event); }
cudaError_t cudaEventQuery(cudaEvent_t event) { return llsa::emu::look_at(event); }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (const cudaError_t error = llsa::emu::on(stream); error != cudaSuccess) return error;
  if (!llsa::emu::is_event(event)) return result(cudaErrorInvalidResourceHandle);
  const bool captured = llsa::emu::real(event).captured, capturing = llsa::emu::is_capturing(stream);
  if (captured && !capturing) return result(cudaErrorCapturedEvent);  // would be a fork: not emulated
  if (capturing && !captured)
    return result(llsa::emu::outside_capture(stream, cudaErrorStreamCaptureIsolation));
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  if (!llsa::emu::is_event(start) || !llsa::emu::is_event(end)) return result(cudaErrorInvalidResourceHandle);
  const auto& a = llsa::emu::real(start);
  const auto& b = llsa::emu::real(end);
  if (a.captured || b.captured) return result(cudaErrorCapturedEvent);
  if (!a.recorded || !b.recorded) return result(cudaErrorInvalidResourceHandle);
  *milliseconds = std::chrono::duration<float, std::milli>(b.time - a.time).count();
  return cudaSuccess;
}

}  // extern "C"

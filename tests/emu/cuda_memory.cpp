// The emulated runtime's memory. Allocations have exactly the size that was asked for and begin as NaN; copies
// to and from device memory are checked against them.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "tests/emu/cuda_objects.h"
#include "tests/emu/device_state.h"

namespace llsa::emu {
namespace {

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
}  // namespace llsa::emu

using llsa::emu::device;
using llsa::emu::result;

extern "C" {

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

}  // extern "C"

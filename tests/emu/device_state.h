// What the parts of the emulated runtime share: everything that exists on the emulated device, and what its
// next calls shall return.
#pragma once

#include <cuda_runtime.h>

#include <chrono>
#include <cstddef>
#include <map>
#include <mutex>
#include <set>
#include <string>

#include "tests/emu/shared.h"

namespace llsa::emu {

using Clock = std::chrono::steady_clock;

/// Bytes of memory, by their first one.
using Ranges = std::map<const unsigned char*, std::size_t>;

constexpr std::size_t kTotalMemory = std::size_t{16} << 30;

struct Device {
  std::mutex mutex;  // of what follows
  Ranges allocations;
  Ranges pinned;  // host memory
  std::set<const void*> streams;
  std::set<const void*> events;
  std::size_t limit = 0, in_use = 0;  // bytes; no limit: 0
  int count = 1;
  int driver = CUDART_VERSION, major = 9;
  std::size_t shared_memory = SharedMemory::kLeast;  // of a block
  cudaError_t broken = cudaSuccess;
  struct {
    std::string function;
    int status = 0, device_error = 0;
  } wish;                   // of fail_next()
  Clock::duration ahead{};  // of the host's clock
};

Device& device();

/// What the call returns: this error, or that of a broken device. cudaGetLastError will return it, too.
cudaError_t result(cudaError_t error);

/// cudaSuccess for work that may be given to the stream.
cudaError_t on(cudaStream_t stream);
/// The same for calls that a stream which is being captured does not take.
cudaError_t beside(cudaStream_t stream);

}  // namespace llsa::emu

// Memory for tensors: a caching allocator per device with counters and an error that says what is held.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "device.h"

namespace llsa {

/// Bytes as the allocator sees them, rounded to its block sizes.
struct AllocatorStats {
  std::size_t active = 0;         ///< in use by live storages
  std::size_t cached = 0;         ///< freed, kept for reuse
  std::size_t peak = 0;           ///< highest `active` since the last reset_peak()
  std::uint64_t allocations = 0;  ///< calls of allocate()
  std::uint64_t cache_hits = 0;   ///< of them served from the cache
};

/// Thread-safe. Blocks are aligned to 64 bytes.
class Allocator {
 public:
  virtual ~Allocator() = default;
  virtual Device device() const = 0;
  /// Throws OutOfMemoryError with the bytes asked, active, cached, and the limit. bytes = 0 gives nullptr.
  virtual void* allocate(std::size_t bytes) = 0;
  /// `bytes` is what allocate() was asked for.
  virtual void deallocate(void* pointer, std::size_t bytes) noexcept = 0;
  virtual AllocatorStats stats() const = 0;
  virtual void reset_peak() = 0;
  /// Gives cached blocks back to the system.
  virtual void release_cache() = 0;
};

/// Caching allocator over aligned host memory. `limit` bounds active + cached bytes; 0 = the memory this
/// process may use, so that too large a request is an error here, and not the end of the process when its
/// pages are touched.
std::shared_ptr<Allocator> make_cpu_allocator(std::size_t limit = 0);

}  // namespace llsa

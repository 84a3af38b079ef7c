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
  std::size_t reserved = 0;       ///< freed, kept for the replays of graphs: nobody else gets it
  std::size_t peak = 0;           ///< highest `active` + `reserved` since the last reset_peak()
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

  /// A private pool for the capture of a graph, whose replays use the addresses that were handed out in it.
  /// Blocks handed out from open_pool() to close_pool() belong to the pool: they are taken from the cache
  /// where it has them, freed ones serve requests of the same pool alone, and none goes back to the system
  /// until drop_pool(), which returns them to the cache. One pool is open at a time; meanwhile the cache is
  /// not given back, as that would wait for the device. Throws DeviceError where there are no graphs.
  virtual std::uint64_t open_pool();
  /// Returns the bytes that were allocated before open_pool() and freed since: a graph that reads them would
  /// go on doing so.
  virtual std::size_t close_pool();
  virtual void drop_pool(std::uint64_t pool) noexcept;
};

/// Caching allocator over aligned host memory. `limit` bounds active + cached bytes; 0 = the memory this
/// process may use, so that too large a request is an error here, and not the end of the process when its
/// pages are touched.
std::shared_ptr<Allocator> make_cpu_allocator(std::size_t limit = 0);

}  // namespace llsa

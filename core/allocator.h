// Memory for tensors: a caching allocator per device. It counts what it holds, and its error reports the counts.
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
  std::size_t reserved = 0;       ///< freed, kept for the replays of a graph and for nothing else
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
  /// Bytes that can still be allocated now, in one block or in many.
  virtual std::size_t available() const = 0;
  virtual void reset_peak() = 0;
  /// Gives cached blocks back to the system.
  virtual void release_cache() = 0;

  /// Opens a private pool for the capture of a graph. Replays use the addresses that were handed out during the
  /// capture, so blocks handed out between open_pool() and close_pool() belong to the pool. They are taken from
  /// the cache if it has some. Once freed, they serve requests of the same pool only. drop_pool() returns them to
  /// the cache. Only one pool can be open, and while it is, the cache is not given back, because that would wait
  /// for the device. Throws DeviceError if the device has no graphs.
  virtual std::uint64_t open_pool();
  /// Returns how many bytes were allocated before open_pool() and freed since. If it is not 0, the graph may read
  /// freed memory.
  virtual std::size_t close_pool();
  virtual void drop_pool(std::uint64_t pool) noexcept;
};

/// Caching allocator over aligned host memory. `limit` bounds active + cached bytes. 0 means available_memory() at this
/// moment. Without a limit, the system would grant too large a request and kill the process when it touches the pages.
std::shared_ptr<Allocator> make_cpu_allocator(std::size_t limit = 0);

}  // namespace llsa

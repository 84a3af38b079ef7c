// The caching allocator of device memory.
//
// Sizes are rounded up to a class as on the CPU. A freed block goes to the list of its class and serves only that
// class again. Nobody waits, because the stream orders the reuse. The lists live in host memory and have room for
// every block that was ever made, so freeing cannot fail. If the limit or the device refuses, the cache is given
// back (cudaFree waits for the device) and the request is tried once more.
//
// A pool is a second set of lists. While a pool is open, it takes blocks from the general lists as they are asked
// for, so capturing work that has run before needs no new memory. A map tells which blocks belong to a pool: they
// may be freed and handed out again as long as the pool is open.
#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/cuda/check.h"
#include "core/cuda/device.h"
#include "core/error.h"
#include "core/poison.h"
#include "core/size_class.h"

namespace llsa::cuda {
namespace {

/// Allows access to the first `used` of `bytes` bytes only. In the emulator, device memory is host memory, which the
/// address sanitizer can watch.
void watch([[maybe_unused]] void* pointer, [[maybe_unused]] std::size_t used,
           [[maybe_unused]] std::size_t bytes) {
#if defined(SIMT_EMU)
  LLSA_UNPOISON(pointer, used);
  LLSA_POISON(static_cast<std::byte*>(pointer) + used, bytes - used);
#endif
}

/// Lets the thread that captures call cudaMalloc, which does not become part of the graph.
class AllowAllocation {
 public:
  AllowAllocation() { static_cast<void>(cudaThreadExchangeStreamCaptureMode(&mode_)); }
  ~AllowAllocation() { static_cast<void>(cudaThreadExchangeStreamCaptureMode(&mode_)); }
  AllowAllocation(const AllowAllocation&) = delete;
  AllowAllocation& operator=(const AllowAllocation&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

class CudaAllocator final : public Allocator {
 public:
  CudaAllocator(std::shared_ptr<Stream> stream, std::size_t limit)
      : stream_(std::move(stream)), limit_(limit) {}
  ~CudaAllocator() override { free_cached(); }

  Device device() const override { return {DeviceType::cuda, stream_->index()}; }

  void* allocate(std::size_t bytes) override {
    if (bytes == 0) return nullptr;
    const std::lock_guard lock(mutex_);
    if (bytes > SizeClass::kMaxBytes) throw out_of_memory(bytes);
    const SizeClass size = SizeClass::of(bytes);
    ++stats_.allocations;
    void* pointer = nullptr;
    if (open_ != nullptr && !open_->lists[size.index].blocks.empty()) {
      ++stats_.cache_hits;
      stats_.reserved -= size.bytes;
      pointer = take(open_->lists[size.index]);
    } else {
      FreeList& list = lists_[size.index];
      if (list.blocks.empty())
        add_block(list, size.bytes, bytes);
      else
        ++stats_.cache_hits;
      if (open_ != nullptr) adopt(list.blocks.back(), size);
      stats_.cached -= size.bytes;
      pointer = take(list);
      // Replays use all memory of a pool, also blocks that were freed meanwhile, so access stays allowed.
      watch(pointer, open_ != nullptr ? size.bytes : bytes, size.bytes);
    }
    stats_.active += size.bytes;
    raise_peak();
    return pointer;
  }

  void deallocate(void* pointer, std::size_t bytes) noexcept override {
    if (pointer == nullptr) return;
    const std::lock_guard lock(mutex_);
    const SizeClass size = SizeClass::of(bytes);
    stats_.active -= size.bytes;
    if (const auto owner = owners_.find(pointer); owner != owners_.end()) {
      stats_.reserved += size.bytes;
      owner->second->lists[size.index].blocks.push_back(pointer);
      return;
    }
    if (open_ != nullptr) open_->outsiders_freed += size.bytes;
    stats_.cached += size.bytes;
    watch(pointer, 0, size.bytes);
    lists_[size.index].blocks.push_back(pointer);
  }

  AllocatorStats stats() const override {
    const std::lock_guard lock(mutex_);
    return stats_;
  }

  std::size_t available() const override {
    const std::lock_guard lock(mutex_);
    std::size_t free = 0, total = 0;
    static_cast<void>(cudaSetDevice(stream_->index()));
    static_cast<void>(cudaMemGetInfo(&free, &total));
    const std::size_t held = stats_.active + stats_.reserved;
    return limit_ == 0 ? free + stats_.cached : std::min(free + stats_.cached, limit_ - held);
  }

  void reset_peak() override {
    const std::lock_guard lock(mutex_);
    stats_.peak = stats_.active + stats_.reserved;
  }

  void release_cache() override {
    const std::lock_guard lock(mutex_);
    if (open_ == nullptr) free_cached();
  }

  std::uint64_t open_pool() override {
    const std::lock_guard lock(mutex_);
    if (open_ != nullptr) throw CudaError("[allocator] a pool is open already: captures do not nest");
    const std::uint64_t pool = ++pools_made_;
    open_ = &pools_[pool];
    return pool;
  }

  std::size_t close_pool() override {
    const std::lock_guard lock(mutex_);
    return open_ == nullptr ? 0 : std::exchange(open_, nullptr)->outsiders_freed;
  }

  void drop_pool(std::uint64_t pool) noexcept override {
    const std::lock_guard lock(mutex_);
    const auto dropped = pools_.find(pool);
    if (dropped == pools_.end() || open_ == &dropped->second) return;
    for (std::size_t i = 0; i < SizeClass::kCount; ++i) {
      for (void* const block : dropped->second.lists[i].blocks) {
        const std::size_t bytes = SizeClass::bytes_of(i);
        stats_.reserved -= bytes;
        stats_.cached += bytes;
        watch(block, 0, bytes);
        lists_[i].blocks.push_back(block);
      }
    }
    std::erase_if(owners_, [&](const auto& entry) { return entry.second == &dropped->second; });
    pools_.erase(dropped);
  }

 private:
  struct FreeList {
    std::vector<void*> blocks;
    std::size_t made = 0;  // blocks of this class that belong here, free or not
  };
  using Lists = std::array<FreeList, SizeClass::kCount>;
  struct Pool {
    Lists lists;
    std::size_t outsiders_freed = 0;  // bytes
  };

  static void* take(FreeList& list) {
    void* const pointer = list.blocks.back();
    list.blocks.pop_back();
    return pointer;
  }

  /// Adds a new block to the end of the list. `asked` is for the error message.
  void add_block(FreeList& list, std::size_t bytes, std::size_t asked) {
    list.blocks.reserve(list.made + 1);
    void* pointer = allocate_new(bytes);
    if (pointer == nullptr && stats_.cached != 0 && open_ == nullptr) {
      free_cached();
      pointer = allocate_new(bytes);
    }
    if (pointer == nullptr) throw out_of_memory(asked);
    ++list.made;
    list.blocks.push_back(pointer);
    stats_.cached += bytes;
  }

  /// Makes a block part of the open pool, whose list gets room for it. lists_ goes on counting it, because it will
  /// come back.
  void adopt(void* block, const SizeClass& size) {
    FreeList& list = open_->lists[size.index];
    list.blocks.reserve(list.made + 1);
    owners_.emplace(block, open_);
    ++list.made;
  }

  void raise_peak() { stats_.peak = std::max(stats_.peak, stats_.active + stats_.reserved); }

  /// nullptr when the limit or the device refuses.
  void* allocate_new(std::size_t bytes) const {
    const std::size_t held = stats_.active + stats_.cached + stats_.reserved;
    if (limit_ != 0 && (bytes > limit_ || held > limit_ - bytes)) return nullptr;
    static_cast<void>(stream_->handle());  // cudaMalloc serves the thread's current device
    const AllowAllocation allowed;
    void* pointer = nullptr;
    const cudaError_t status = cudaMalloc(&pointer, bytes);
    if (status == cudaErrorMemoryAllocation) {
      static_cast<void>(cudaGetLastError());
      return nullptr;
    }
    check(status, "cudaMalloc");
    return pointer;
  }

  void free_cached() noexcept {
    static_cast<void>(cudaSetDevice(stream_->index()));
    for (FreeList& list : lists_) {
      for (void* block : list.blocks) static_cast<void>(cudaFree(block));
      list.made -= list.blocks.size();
      list.blocks.clear();
    }
    stats_.cached = 0;
  }

  OutOfMemoryError out_of_memory(std::size_t bytes) const {
    std::size_t free = 0, total = 0;
    static_cast<void>(cudaMemGetInfo(&free, &total));
    return OutOfMemoryError(cat("[allocator] out of memory on ", device().str(), ": asked for ", bytes,
                                " bytes, ", stats_.active, " active, ", stats_.cached, " cached, ",
                                stats_.reserved != 0 ? cat(stats_.reserved, " kept for graphs, ") : "",
                                limit_ != 0 ? cat("limit ", limit_, " bytes")
                                            : cat("the device has ", free, " of ", total, " bytes free")),
                            "reduce the batch or the image size, or use activation checkpointing");
  }

  const std::shared_ptr<Stream> stream_;
  const std::size_t limit_;
  mutable std::mutex mutex_;
  AllocatorStats stats_;
  Lists lists_;
  std::map<std::uint64_t, Pool> pools_;      // by number; a map, because open_ points to an element
  std::unordered_map<void*, Pool*> owners_;  // of every block of a pool, free or not
  Pool* open_ = nullptr;
  std::uint64_t pools_made_ = 0;
};

}  // namespace

std::shared_ptr<Allocator> make_allocator(std::shared_ptr<Stream> stream, std::size_t limit) {
  return std::make_shared<CudaAllocator>(std::move(stream), limit);
}

}  // namespace llsa::cuda

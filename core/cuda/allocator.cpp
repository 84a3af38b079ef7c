// The caching allocator of device memory.
//
// Sizes are rounded up to a class as on the CPU; a freed block goes to the list of its class and serves only
// that class again, without waiting: reuse is ordered by the stream. The lists live in host memory and have
// room for every block that was ever made, so freeing cannot fail. When the limit or the device refuses, the
// cache is given back (cudaFree waits for the device) and the request tried once more.
#include <algorithm>
#include <array>
#include <mutex>
#include <vector>

#include "core/cuda/check.h"
#include "core/cuda/device.h"
#include "core/error.h"
#include "core/poison.h"
#include "core/size_class.h"

namespace llsa::cuda {
namespace {

/// Lets only the first `used` of `bytes` bytes be touched. Under the emulator device memory is host memory,
/// which the address sanitizer can watch.
void watch([[maybe_unused]] void* pointer, [[maybe_unused]] std::size_t used,
           [[maybe_unused]] std::size_t bytes) {
#if defined(SIMT_EMU)
  LLSA_UNPOISON(pointer, used);
  LLSA_POISON(static_cast<std::byte*>(pointer) + used, bytes - used);
#endif
}

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
    FreeList& list = free_[size.index];
    ++stats_.allocations;
    void* pointer = nullptr;
    if (!list.blocks.empty()) {
      ++stats_.cache_hits;
      stats_.cached -= size.bytes;
      pointer = list.blocks.back();
      list.blocks.pop_back();
    } else {
      list.blocks.reserve(list.made + 1);
      pointer = allocate_new(size.bytes);
      if (pointer == nullptr && stats_.cached != 0) {
        free_cached();
        pointer = allocate_new(size.bytes);
      }
      if (pointer == nullptr) throw out_of_memory(bytes);
      ++list.made;
    }
    stats_.active += size.bytes;
    stats_.peak = std::max(stats_.peak, stats_.active);
    watch(pointer, bytes, size.bytes);
    return pointer;
  }

  void deallocate(void* pointer, std::size_t bytes) noexcept override {
    if (pointer == nullptr) return;
    const std::lock_guard lock(mutex_);
    const SizeClass size = SizeClass::of(bytes);
    stats_.active -= size.bytes;
    stats_.cached += size.bytes;
    watch(pointer, 0, size.bytes);
    free_[size.index].blocks.push_back(pointer);
  }

  AllocatorStats stats() const override {
    const std::lock_guard lock(mutex_);
    return stats_;
  }

  void reset_peak() override {
    const std::lock_guard lock(mutex_);
    stats_.peak = stats_.active;
  }

  void release_cache() override {
    const std::lock_guard lock(mutex_);
    free_cached();
  }

 private:
  struct FreeList {
    std::vector<void*> blocks;
    std::size_t made = 0;  // blocks of this class that exist, free or not
  };

  /// nullptr when the limit or the device refuses.
  void* allocate_new(std::size_t bytes) const {
    const std::size_t held = stats_.active + stats_.cached;
    if (limit_ != 0 && (bytes > limit_ || held > limit_ - bytes)) return nullptr;
    static_cast<void>(stream_->handle());  // cudaMalloc serves the thread's current device
    void* pointer = nullptr;
    const cudaError_t status = cudaMalloc(&pointer, bytes);
    if (status == cudaErrorMemoryAllocation) {
      static_cast<void>(cudaGetLastError());
      return nullptr;
    }
    LLSA_CUDA_CHECK(status);
    return pointer;
  }

  void free_cached() noexcept {
    static_cast<void>(cudaSetDevice(stream_->index()));
    for (FreeList& list : free_) {
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
                                limit_ != 0 ? cat("limit ", limit_, " bytes")
                                            : cat("the device has ", free, " of ", total, " bytes free")),
                            "reduce the batch or the image size, or use activation checkpointing");
  }

  const std::shared_ptr<Stream> stream_;
  const std::size_t limit_;
  mutable std::mutex mutex_;
  AllocatorStats stats_;
  std::array<FreeList, SizeClass::kCount> free_;
};

}  // namespace

std::shared_ptr<Allocator> make_allocator(std::shared_ptr<Stream> stream, std::size_t limit) {
  return std::make_shared<CudaAllocator>(std::move(stream), limit);
}

}  // namespace llsa::cuda

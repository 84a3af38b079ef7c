// The caching allocator of host memory.
//
// Sizes are rounded up to a class (size_class.h). A freed block goes to the list of its class and serves only
// that class again. The lists are linked through the freed blocks themselves, so freeing cannot fail. If the
// limit or the system refuses, the cache is given back and the request is tried once more.
#include "core/allocator.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <array>
#include <cstdlib>
#include <mutex>

#include "core/error.h"
#include "core/machine.h"
#include "core/poison.h"
#include "core/size_class.h"

namespace llsa {
namespace {

// Blocks of at least kLarge bytes ask for huge pages. They cause far fewer page faults, and scattered reads stay
// within the processor's translation buffers.
constexpr std::size_t kHugePage = std::size_t{1} << 21;
constexpr std::size_t kLarge = 2 * kHugePage;

class CpuAllocator final : public Allocator {
 public:
  explicit CpuAllocator(std::size_t limit)
      : limit_(limit != 0 ? limit : available_memory()),
        limit_kind_(limit != 0 ? "" : " (the memory that was free at the start)") {}
  ~CpuAllocator() override { free_cached(); }

  Device device() const override { return {DeviceType::cpu, 0}; }

  void* allocate(std::size_t bytes) override {
    if (bytes == 0) return nullptr;
    const std::lock_guard lock(mutex_);
    if (bytes > SizeClass::kMaxBytes) throw out_of_memory(bytes);
    const SizeClass size = SizeClass::of(bytes);
    ++stats_.allocations;
    void* pointer = nullptr;
    if (free_[size.index] != nullptr) {
      ++stats_.cache_hits;
      stats_.cached -= size.bytes;
      pointer = free_[size.index];
      LLSA_UNPOISON(pointer, size.bytes);
      free_[size.index] = static_cast<FreeBlock*>(pointer)->next;
    } else {
      pointer = allocate_new(size.bytes);
      if (pointer == nullptr && stats_.cached != 0) {
        free_cached();
        pointer = allocate_new(size.bytes);
      }
      if (pointer == nullptr) throw out_of_memory(bytes);
    }
    stats_.active += size.bytes;
    stats_.peak = std::max(stats_.peak, stats_.active);
    return pointer;
  }

  void deallocate(void* pointer, std::size_t bytes) noexcept override {
    if (pointer == nullptr) return;
    const std::lock_guard lock(mutex_);
    const SizeClass size = SizeClass::of(bytes);
    stats_.active -= size.bytes;
    stats_.cached += size.bytes;
    LLSA_UNPOISON(pointer, size.bytes);
    free_[size.index] = new (pointer) FreeBlock{free_[size.index]};
    LLSA_POISON(pointer, size.bytes);
  }

  AllocatorStats stats() const override {
    const std::lock_guard lock(mutex_);
    return stats_;
  }

  std::size_t available() const override {
    const std::lock_guard lock(mutex_);
    return limit_ - stats_.active;
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
  struct FreeBlock {
    FreeBlock* next;
  };

  /// nullptr when the limit or the system refuses.
  void* allocate_new(std::size_t bytes) const {
    const std::size_t held = stats_.active + stats_.cached;
    if (bytes > limit_ || held > limit_ - bytes) return nullptr;
    if (bytes < kLarge) return std::aligned_alloc(SizeClass::kAlignment, bytes);
    void* const block = std::aligned_alloc(kHugePage, (bytes + kHugePage - 1) / kHugePage * kHugePage);
#if defined(__linux__)
    if (block != nullptr)
      madvise(block, bytes, MADV_HUGEPAGE);  // only a hint: if it is refused, only speed suffers
#endif
    return block;
  }

  void free_cached() noexcept {
    for (FreeBlock*& head : free_) {
      while (head != nullptr) {
        FreeBlock* block = head;
        LLSA_UNPOISON(block, sizeof(FreeBlock));
        head = block->next;
        std::free(block);
      }
    }
    stats_.cached = 0;
  }

  OutOfMemoryError out_of_memory(std::size_t bytes) const {
    return OutOfMemoryError(
        cat("[allocator] out of memory on cpu: asked for ", bytes, " bytes, ", stats_.active, " active, ",
            stats_.cached, " cached, limit ", limit_, " bytes", limit_kind_),
        "reduce the batch or the image size, or use activation checkpointing");
  }

  const std::size_t limit_;
  const char* const limit_kind_;
  mutable std::mutex mutex_;
  AllocatorStats stats_;
  std::array<FreeBlock*, SizeClass::kCount> free_{};
};

}  // namespace

std::uint64_t Allocator::open_pool() {
  throw DeviceError(cat("[allocator] ", device().str(), " has no graphs, and no memory for them"));
}
std::size_t Allocator::close_pool() { return 0; }
void Allocator::drop_pool(std::uint64_t) noexcept {}

std::shared_ptr<Allocator> make_cpu_allocator(std::size_t limit) {
  return std::make_shared<CpuAllocator>(limit);
}

}  // namespace llsa

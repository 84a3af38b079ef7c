#include "tests/emu/shared.h"

#include <sys/mman.h>

#include <new>

#include "tests/emu/cuda_objects.h"
#include "tests/emu/runtime.h"
#include "tests/emu/sanitizers.h"

namespace llsa::emu {
namespace {

constexpr std::size_t kGap = 64;            // between arrays, seen by AddressSanitizer only
constexpr std::size_t kBytes = 512 * 1024;  // room for the largest block and its gaps
constexpr std::size_t kDynamicAlignment = 128;

constexpr std::size_t round_up(std::size_t n, std::size_t to) { return (n + to - 1) / to * to; }

}  // namespace

SharedMemory::SharedMemory() {
  void* const p = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  base_ = static_cast<unsigned char*>(p);
  arrays_.reserve(64);
}

SharedMemory::~SharedMemory() {
  unpoison(base_, kBytes);
  munmap(base_, kBytes);
}

void SharedMemory::reset(std::size_t dynamic_bytes) {
  poison(base_, kBytes);
  end_ = 0;
  static_bytes_ = 0;
  dynamic_bytes_ = dynamic_bytes;
  dynamic_ = nullptr;
  arrays_.clear();
}

unsigned char* SharedMemory::take(std::size_t bytes, std::size_t offset) {
  if (const std::size_t most = shared_memory_of_block();
      dynamic_bytes_ + static_bytes_ > most || offset + bytes + kGap > kBytes)
    fail("%zu bytes of dynamic and %zu of static shared memory exceed the block's %zu", dynamic_bytes_,
         static_bytes_, most);
  if (dynamic_bytes_ > 0 && dynamic_bytes_ <= simt::kUsualDynamicShared &&
      dynamic_bytes_ + static_bytes_ > kUsual)
    fail(
        "%zu bytes of dynamic and %zu of static shared memory exceed %zu, which simt::launch asks for only "
        "where more than %zu are dynamic",
        dynamic_bytes_, static_bytes_, kUsual, simt::kUsualDynamicShared);
  end_ = offset + bytes;
  unpoison(base_ + offset, bytes);
  raw_fill(base_ + offset, 0xff, bytes);
  return base_ + offset;
}

unsigned char* SharedMemory::dynamic() {
  // An odd multiple of the alignment: code that relies on more than is promised shall not work by luck.
  if (!dynamic_)
    dynamic_ = take(dynamic_bytes_, round_up(end_ + kGap, 2 * kDynamicAlignment) + kDynamicAlignment);
  return dynamic_;
}

void* SharedMemory::array(const void* key, std::size_t bytes, std::size_t alignment) {
  for (const auto& [k, p] : arrays_)
    if (k == key) return p;
  static_bytes_ += bytes;
  if (static_bytes_ > kMaxStatic)
    fail("%zu bytes of static shared memory exceed %zu; take dynamic shared memory", static_bytes_,
         kMaxStatic);
  unsigned char* const p = take(bytes, round_up(end_ + kGap, alignment));
  arrays_.emplace_back(key, p);
  return p;
}

unsigned SharedMemory::address(const void* p) const {
  const auto offset = static_cast<const unsigned char*>(p) - base_;
  if (offset < 0 || static_cast<std::size_t>(offset) > end_)
    fail("smem_address(%p): no address of this block's shared memory", p);
  return static_cast<unsigned>(offset);
}

bool SharedMemory::contains(unsigned address, std::size_t bytes) const { return address + bytes <= end_; }

}  // namespace llsa::emu

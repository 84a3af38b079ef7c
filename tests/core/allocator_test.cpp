// Alignment, reuse, counters, limit and its error.
#include "core/allocator.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/size_class.h"

using namespace llsa;

TEST_SUITE_BEGIN("core/allocator");

TEST_CASE("blocks are aligned and at most an eighth larger than asked") {
  const auto allocator = make_cpu_allocator();
  CHECK(allocator->device().is_cpu());
  for (std::size_t bytes = 1; bytes < 3000000; bytes += bytes / 7 + 1) {
    for (const std::size_t asked : {bytes, (bytes + 63) / 64 * 64}) {
      void* block = allocator->allocate(asked);
      CHECK(reinterpret_cast<std::uintptr_t>(block) % 64 == 0);
      std::memset(block, 1, asked);
      const std::size_t active = allocator->stats().active;
      CHECK(active >= asked);
      CHECK(active <= std::max(asked + 63, asked + asked / 8));
      allocator->deallocate(block, asked);
      allocator->release_cache();
    }
  }
}

TEST_CASE("the bytes of a class follow from its index") {
  for (std::size_t bytes = 1; bytes < std::size_t{1} << 40; bytes += 1 + bytes / 19) {
    const SizeClass size = SizeClass::of(bytes);
    CHECK(SizeClass::bytes_of(size.index) == size.bytes);
  }
  CHECK(SizeClass::bytes_of(SizeClass::of(SizeClass::kMaxBytes).index) == SizeClass::kMaxBytes);
}

TEST_CASE("a freed block serves its class again, and counters follow") {
  const auto allocator = make_cpu_allocator();
  CHECK(allocator->allocate(0) == nullptr);
  allocator->deallocate(nullptr, 0);
  void* first = allocator->allocate(1000);
  void* second = allocator->allocate(1000);
  CHECK(first != second);
  CHECK(allocator->stats().active == 2048);
  allocator->deallocate(first, 1000);
  CHECK(allocator->stats().active == 1024);
  CHECK(allocator->stats().cached == 1024);
  CHECK(allocator->allocate(1024) == first);  // same class
  CHECK(allocator->stats().cached == 0);
  CHECK(allocator->stats().cache_hits == 1);
  CHECK(allocator->stats().allocations == 3);
  allocator->deallocate(first, 1024);
  allocator->deallocate(second, 1000);
  CHECK(allocator->stats().active == 0);
  CHECK(allocator->stats().peak == 2048);
  allocator->reset_peak();
  CHECK(allocator->stats().peak == 0);
  allocator->release_cache();
  CHECK(allocator->stats().cached == 0);
}

TEST_CASE("the limit counts what is cached, which is given back before giving up") {
  const auto allocator = make_cpu_allocator(10000);
  void* cached = allocator->allocate(4096);
  void* active = allocator->allocate(2048);
  allocator->deallocate(cached, 4096);
  void* larger = allocator->allocate(7168);  // fits only without the cached block
  CHECK(allocator->stats().active == 2048 + 7168);
  CHECK(allocator->available() == 10000 - (2048 + 7168));
  CHECK(allocator->stats().cached == 0);
  std::string message;
  try {
    allocator->allocate(1024);
  } catch (const OutOfMemoryError& error) {
    message = error.what();
    CHECK_FALSE(error.hint().empty());
  }
  CHECK(message ==
        "[allocator] out of memory on cpu: asked for 1024 bytes, 9216 active, 0 cached, limit 10000 bytes");
  CHECK(allocator->stats().active == 9216);
  allocator->deallocate(larger, 7168);
  allocator->deallocate(active, 2048);
}

TEST_CASE("sizes that no machine has are out of memory, not a crash") {
  const auto allocator = make_cpu_allocator();
  CHECK_THROWS_AS(allocator->allocate(std::size_t{1} << 62), OutOfMemoryError);
  CHECK_THROWS_AS(allocator->allocate(~std::size_t{0}), OutOfMemoryError);
}

TEST_CASE("threads may allocate and free at the same time") {
  const auto allocator = make_cpu_allocator();
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < 2000; ++i) {
        const std::size_t bytes = 64 * ((i + t) % 20 + 1);
        void* block = allocator->allocate(bytes);
        std::memset(block, static_cast<int>(t), bytes);
        allocator->deallocate(block, bytes);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(allocator->stats().active == 0);
  CHECK(allocator->stats().allocations == 6000);
}

TEST_SUITE_END();

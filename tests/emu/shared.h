// Shared memory of one block: an arena in which every array lies between poisoned gaps and begins as NaN
// (0xff).
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "kernels/cuda/simt/shared_limits.h"

namespace llsa::emu {

class SharedMemory {
 public:
  static constexpr std::size_t kUsual = simt::kUsualShared;
  // Of a block, static and dynamic together: the least that a supported GPU has (8.6, 8.9, 12.0), and the most
  // (9.0).
  static constexpr std::size_t kLeast = 99 * 1024, kMax = 227 * 1024;
  static constexpr std::size_t kMaxStatic = kUsual;  // of that, static

  SharedMemory();
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  /// Begins a block: nothing is live.
  void reset(std::size_t dynamic_bytes);

  unsigned char* dynamic();
  void* array(const void* key, std::size_t bytes, std::size_t alignment);

  unsigned address(const void* p) const;
  bool contains(unsigned address, std::size_t bytes) const;
  unsigned char* at(unsigned address) const { return base_ + address; }

 private:
  unsigned char* take(std::size_t bytes, std::size_t offset);

  unsigned char* base_;
  std::size_t end_ = 0;  // offset behind the last array
  std::size_t dynamic_bytes_ = 0, static_bytes_ = 0;
  unsigned char* dynamic_ = nullptr;
  std::vector<std::pair<const void*, unsigned char*>> arrays_;
};

}  // namespace llsa::emu

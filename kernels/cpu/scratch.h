// Memory of one thread for the length of one piece of work.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

namespace llsa::kernels::cpu {

/// At least `count` elements, aligned to 64 bytes, uninitialised; the same memory at every call with the same
/// Slot and T on one thread. It grows and is freed when the thread ends.
template <int Slot, class T>
T* scratch(std::int64_t count) {
  struct Free {
    void operator()(T* p) const { ::operator delete (p, std::align_val_t{64}); }
  };
  thread_local std::unique_ptr<T, Free> memory;
  thread_local std::int64_t held = 0;
  if (held < count) {
    memory.reset();
    held = 0;
    memory.reset(
        static_cast<T*>(::operator new (static_cast<std::size_t>(count) * sizeof(T), std::align_val_t{64})));
    held = count;
  }
  return memory.get();
}

}  // namespace llsa::kernels::cpu

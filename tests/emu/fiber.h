// Fibers: functions with a stack of their own that give the processor to one another by name.
//
// On x86-64 a switch saves six registers by hand (some 10 ns); elsewhere ucontext does it (some 400 ns).
// All fibers of a pool belong to the OS thread that runs them. The sanitizers are told of every switch.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#if !defined(__x86_64__) && !defined(LLSA_EMU_UCONTEXT)
#define LLSA_EMU_UCONTEXT
#endif
#ifdef LLSA_EMU_UCONTEXT
#include <ucontext.h>
#endif

namespace llsa::emu {

/// The state of a fiber that is not running.
struct Fiber {
#ifdef LLSA_EMU_UCONTEXT
  ucontext_t context{};
#else
  void* stack_pointer = nullptr;
#endif
  const unsigned char* stack = nullptr;  // lowest address
  std::size_t stack_bytes = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's
  void* tsan_fiber = nullptr;  // ThreadSanitizer's
};

/// Leaves the running fiber `from` and continues `to`. With `ends`, `from` is never continued.
void switch_fiber(Fiber& from, Fiber& to, bool ends = false);

/// Describes the OS thread's own stack in `fiber`, so that fibers can switch back to it.
void adopt_thread(Fiber& fiber);

/// The first thing a fiber's function has to call.
void fiber_started();

/// Stacks, each with an inaccessible page below it, and the fibers on them.
class FiberPool {
 public:
  FiberPool() = default;
  ~FiberPool();
  FiberPool(const FiberPool&) = delete;
  FiberPool& operator=(const FiberPool&) = delete;

  /// Sees to at least `count` fibers; the state of all is lost when there were fewer.
  void reserve(std::size_t count);
  /// Fiber i, set to begin with `entry`, which must never return.
  void prime(std::size_t i, void (*entry)());
  /// Makes all stacks accessible again after fibers were left in the middle.
  void forget_running();

  Fiber& operator[](std::size_t i) { return fibers_[i]; }

 private:
  void release_all();

  std::vector<Fiber> fibers_;
  unsigned char* memory_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace llsa::emu

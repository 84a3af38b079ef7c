#include "tests/emu/fiber.h"

#include <pthread.h>
#include <sys/mman.h>

#include <cstdint>
#include <new>

#include "tests/emu/sanitizers.h"

#ifndef LLSA_EMU_UCONTEXT
// Pushes what the calling convention lets a function keep, stores the stack pointer at *save, takes over
// `load` and pops.
extern "C" void llsa_emu_switch_stack(void** save, void* load);
asm(R"(
.text
.globl llsa_emu_switch_stack
.type llsa_emu_switch_stack,@function
llsa_emu_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size llsa_emu_switch_stack,.-llsa_emu_switch_stack
)");
#endif

namespace llsa::emu {
namespace {

constexpr std::size_t kGuard = 4096;
// A fiber that ends leaves a few frames behind that never return, and with them AddressSanitizer's marks.
constexpr std::size_t kLastFrames = 16 * 1024;
constexpr std::size_t kStack = (LLSA_EMU_ASAN || LLSA_EMU_TSAN ? 256 : 64) * std::size_t{1024};

}  // namespace

void switch_fiber(Fiber& from, Fiber& to, [[maybe_unused]] bool ends) {
#if LLSA_EMU_ASAN
  __sanitizer_start_switch_fiber(ends ? nullptr : &from.fake_stack, to.stack, to.stack_bytes);
#endif
#if LLSA_EMU_TSAN
  __tsan_switch_to_fiber(to.tsan_fiber, 1);  // 1: the switch itself orders nothing
#endif
#ifdef LLSA_EMU_UCONTEXT
  swapcontext(&from.context, &to.context);
#else
  llsa_emu_switch_stack(&from.stack_pointer, to.stack_pointer);
#endif
#if LLSA_EMU_ASAN
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void adopt_thread([[maybe_unused]] Fiber& fiber) {
#if LLSA_EMU_ASAN
  // Once per thread: for the main thread, glibc reads /proc/self/maps.
  static thread_local void* stack = nullptr;
  static thread_local std::size_t bytes = 0;
  if (!stack) {
    pthread_attr_t attributes;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &stack, &bytes);
    pthread_attr_destroy(&attributes);
  }
  fiber.stack = static_cast<const unsigned char*>(stack);
  fiber.stack_bytes = bytes;
#endif
#if LLSA_EMU_TSAN
  fiber.tsan_fiber = __tsan_get_current_fiber();
#endif
}

void fiber_started() {
#if LLSA_EMU_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

FiberPool::~FiberPool() { release_all(); }

void FiberPool::release_all() {
#if LLSA_EMU_TSAN
  for (Fiber& f : fibers_)
    if (f.tsan_fiber) __tsan_destroy_fiber(f.tsan_fiber);
#endif
  fibers_.clear();
  if (!memory_) return;
  unpoison(memory_, bytes_);
  munmap(memory_, bytes_);
  memory_ = nullptr;
}

void FiberPool::reserve(std::size_t count) {
  if (fibers_.size() >= count) return;
  release_all();
  constexpr std::size_t stride = kStack + kGuard;
  bytes_ = stride * count;
  void* const p =
      mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<unsigned char*>(p);
  fibers_.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    if (!LLSA_EMU_TSAN) mprotect(memory_ + stride * i, kGuard, PROT_NONE);
    fibers_[i].stack = memory_ + stride * i + kGuard;
    fibers_[i].stack_bytes = kStack;
  }
}

void FiberPool::prime(std::size_t i, void (*entry)()) {
  Fiber& f = fibers_[i];
  f.fake_stack = nullptr;
  unpoison(f.stack + f.stack_bytes - kLastFrames, kLastFrames);
#if LLSA_EMU_TSAN
  if (!f.tsan_fiber) f.tsan_fiber = __tsan_create_fiber(0);  // a millisecond each, so they are kept
#endif
#ifdef LLSA_EMU_UCONTEXT
  getcontext(&f.context);
  f.context.uc_stack.ss_sp = const_cast<unsigned char*>(f.stack);
  f.context.uc_stack.ss_size = f.stack_bytes;
  f.context.uc_link = nullptr;
  makecontext(&f.context, entry, 0);
#else
  // Tops at the same distance from each other would share few cache sets, so they are staggered.
  auto top = reinterpret_cast<std::uintptr_t>(f.stack) + f.stack_bytes - (i * 5 % 31) * 192;
  auto** p = reinterpret_cast<void**>(top & ~std::uintptr_t{63});
  *--p = nullptr;  // where entry would return to; it is entered with rsp = 8 mod 16 as by a call
  *--p = reinterpret_cast<void*>(entry);
  for (int k = 0; k < 6; ++k) *--p = nullptr;
  f.stack_pointer = p;
#endif
}

}  // namespace llsa::emu

// What the emulator tells the sanitizers: which memory is live, and that fibers are threads of their own.
//
// The emulator's own files, under AddressSanitizer those that touch no memory of a kernel, are compiled without
// instrumentation: its bookkeeping is no part of the emulated program, and takes longer than the kernels when
// it is watched. LLSA_EMU_ASAN and LLSA_EMU_TSAN, which the build defines, say what the rest has.
#pragma once

#include <cstddef>

#ifndef LLSA_EMU_ASAN
#define LLSA_EMU_ASAN 0
#endif
#if LLSA_EMU_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef LLSA_EMU_TSAN
#define LLSA_EMU_TSAN 0
#endif
#if LLSA_EMU_TSAN
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void __tsan_read_range(void* address, unsigned long bytes);
void __tsan_write_range(void* address, unsigned long bytes);
}
#endif

namespace llsa::emu {

/// AddressSanitizer reports any access to [p, p + bytes) from now on.
inline void poison([[maybe_unused]] const void* p, [[maybe_unused]] std::size_t bytes) {
#if LLSA_EMU_ASAN
  __asan_poison_memory_region(p, bytes);
#endif
}

/// Access to [p, p + bytes) is allowed again.
inline void unpoison([[maybe_unused]] const void* p, [[maybe_unused]] std::size_t bytes) {
#if LLSA_EMU_ASAN
  __asan_unpoison_memory_region(p, bytes);
#endif
}

/// ThreadSanitizer: what happened before release(p) in one lane has happened for a lane after its
/// acquire(p).
inline void release([[maybe_unused]] void* p) {
#if LLSA_EMU_TSAN
  __tsan_release(p);
#endif
}
inline void acquire([[maybe_unused]] void* p) {
#if LLSA_EMU_TSAN
  __tsan_acquire(p);
#endif
}

/// ThreadSanitizer: the current lane reads or writes these bytes (an asynchronous copy does it in its
/// name).
inline void note_read([[maybe_unused]] const void* p, [[maybe_unused]] std::size_t bytes) {
#if LLSA_EMU_TSAN
  if (bytes > 0) __tsan_read_range(const_cast<void*>(p), bytes);
#endif
}
inline void note_write([[maybe_unused]] void* p, [[maybe_unused]] std::size_t bytes) {
#if LLSA_EMU_TSAN
  if (bytes > 0) __tsan_write_range(p, bytes);
#endif
}

/// memset and memcpy that no sanitizer intercepts: the emulator's own writes are not the kernel's.
inline void raw_fill(void* p, int value, std::size_t bytes) {
#if defined(__x86_64__)
  asm volatile("rep stosb" : "+D"(p), "+c"(bytes) : "a"(value) : "memory");
#else
  auto* to = static_cast<volatile unsigned char*>(p);
  for (std::size_t i = 0; i < bytes; ++i) to[i] = static_cast<unsigned char>(value);
#endif
}
inline void raw_copy(void* to, const void* from, std::size_t bytes) {
#if defined(__x86_64__)
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
#else
  auto* t = static_cast<volatile unsigned char*>(to);
  const auto* f = static_cast<const volatile unsigned char*>(from);
  for (std::size_t i = 0; i < bytes; ++i) t[i] = f[i];
#endif
}

}  // namespace llsa::emu

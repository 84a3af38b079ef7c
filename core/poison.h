// Marks memory that must not be touched, for the address sanitizer; nothing in other builds.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define LLSA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LLSA_ASAN 1
#endif
#endif
#if defined(LLSA_ASAN)
#include <sanitizer/asan_interface.h>
#define LLSA_POISON(pointer, bytes) __asan_poison_memory_region(pointer, bytes)
#define LLSA_UNPOISON(pointer, bytes) __asan_unpoison_memory_region(pointer, bytes)
#else
#define LLSA_POISON(pointer, bytes) static_cast<void>(0)
#define LLSA_UNPOISON(pointer, bytes) static_cast<void>(0)
#endif

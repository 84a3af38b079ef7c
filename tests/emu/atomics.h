// Atomics on shared and global memory: real ones, since blocks run on several OS threads; relaxed, as on
// the device.
#pragma once

#include <atomic>
#include <type_traits>

#include "runtime.h"

namespace llsa::emu {

template <class T, class... Options>
concept OneOf = (std::is_same_v<T, Options> || ...);

template <class T>
concept AtomicInteger = OneOf<T, int, unsigned, unsigned long long>;
template <class T>
concept AtomicNumber = AtomicInteger<T> || OneOf<T, float, double>;

/// *p = f(*p) in one step; returns what was there.
template <class T, class F>
T read_modify_write(T* p, F f) {
  std::atomic_ref<T> a(*p);
  T old = a.load(std::memory_order_relaxed);
  while (!a.compare_exchange_weak(old, f(old), std::memory_order_relaxed)) {
  }
  return old;
}

}  // namespace llsa::emu

template <llsa::emu::AtomicNumber T>
T atomicAdd(T* p, std::type_identity_t<T> x) {
  return llsa::emu::read_modify_write(p, [x](T old) { return static_cast<T>(old + x); });
}
template <llsa::emu::AtomicInteger T>
T atomicSub(T* p, std::type_identity_t<T> x) {
  return std::atomic_ref<T>(*p).fetch_sub(x, std::memory_order_relaxed);
}
template <class T>
requires llsa::emu::OneOf<T, int, unsigned, unsigned long long, float> T
atomicExch(T* p, std::type_identity_t<T> x) {
  return std::atomic_ref<T>(*p).exchange(x, std::memory_order_relaxed);
}
template <llsa::emu::AtomicInteger T>
T atomicCAS(T* p, std::type_identity_t<T> expected, std::type_identity_t<T> x) {
  std::atomic_ref<T>(*p).compare_exchange_strong(expected, x, std::memory_order_relaxed);
  return expected;
}
template <llsa::emu::AtomicInteger T>
T atomicMax(T* p, std::type_identity_t<T> x) {
  return llsa::emu::read_modify_write(p, [x](T old) { return old < x ? x : old; });
}
template <llsa::emu::AtomicInteger T>
T atomicMin(T* p, std::type_identity_t<T> x) {
  return llsa::emu::read_modify_write(p, [x](T old) { return x < old ? x : old; });
}
template <llsa::emu::AtomicInteger T>
T atomicOr(T* p, std::type_identity_t<T> x) {
  return std::atomic_ref<T>(*p).fetch_or(x, std::memory_order_relaxed);
}
template <llsa::emu::AtomicInteger T>
T atomicAnd(T* p, std::type_identity_t<T> x) {
  return std::atomic_ref<T>(*p).fetch_and(x, std::memory_order_relaxed);
}
template <llsa::emu::AtomicInteger T>
T atomicXor(T* p, std::type_identity_t<T> x) {
  return std::atomic_ref<T>(*p).fetch_xor(x, std::memory_order_relaxed);
}

inline void __threadfence() { llsa::emu::fence(); }
inline void __threadfence_block() { llsa::emu::fence(); }

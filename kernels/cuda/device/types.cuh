// Element types in kernels: float, double and __nv_bfloat16, which has the bits of llsa::bf16. Sums are taken
// in accumulator_t<T> (core/dtype.h): double for double, float for the others.
#pragma once

#include <cuda_bf16.h>

#include <algorithm>

#include "../../../core/tensor.h"

namespace llsa::kernels::cuda {

/// Calls f.template operator()<T>() with the type that kernels use for a floating dtype.
template <class F>
void visit_device(DType dtype, const char* where, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f.template operator()<float>();
    case DType::bf16:
      return f.template operator()<__nv_bfloat16>();
    case DType::f64:
      return f.template operator()<double>();
    default:
      throw DTypeError(cat("[", where, "] takes f32, bf16 or f64, got ", name_of(dtype)));
  }
}

/// The elements as kernels see them; null for an undefined tensor. The caller has checked the dtype.
template <class T>
T* device_data(const Tensor& x) {
  return x.defined() ? reinterpret_cast<T*>(x.raw()) : nullptr;
}

/// N neighbours that move in one instruction; the address is a multiple of their size.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T value[N];
};

/// Elements in the 16 bytes that one lane moves best.
template <class T>
constexpr int kPack = 16 / static_cast<int>(sizeof(T));

template <int N, class T>
__device__ Pack<T, N> load_pack(const T* from) {
  return *reinterpret_cast<const Pack<T, N>*>(from);
}

template <int N, class T>
__device__ void store_pack(T* to, const Pack<T, N>& pack) {
  *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

/// Whether rows of `width` elements from these addresses can be moved in packs of 16 bytes.
template <class... T>
bool packable(std::int64_t width, const T*... pointers) {
  constexpr std::int64_t size = std::max({std::int64_t{sizeof(T)}...});
  return width * size % 16 == 0 && ((reinterpret_cast<std::uintptr_t>(pointers) % 16 == 0) && ...);
}

}  // namespace llsa::kernels::cuda

// What CUDA gives a kernel without an include: built-in variables, intrinsics, atomics, and launching.
// Included by kernels/cuda/simt/simt.h; the names are CUDA's and live where CUDA has them.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <type_traits>

#include "atomics.h"
#include "intrinsics.h"
#include "runtime.h"
#include "warp.h"

#ifndef __launch_bounds__
#define __launch_bounds__(...)
#endif
#undef __shared__
#define __shared__ static_assert(false, "use SIMT_SHARED or SIMT_DYNAMIC_SHARED instead of __shared__")
#undef __constant__
#define __constant__

// A lane never leaves its OS thread, so these are set whenever another lane takes its turn.
inline constinit thread_local uint3 threadIdx{};
inline constinit thread_local uint3 blockIdx{};
inline constinit thread_local dim3 blockDim{};
inline constinit thread_local dim3 gridDim{};
inline constexpr int warpSize = 32;

#ifdef __clang__
#define SIMT_UNROLL _Pragma("unroll")
#else
#define SIMT_UNROLL _Pragma("GCC unroll 16")
#endif
#define SIMT_NO_UNROLL

// Every declaration has a lambda of its own type, hence a key of its own.
#define SIMT_SHARED(name, ...)                                                              \
  auto& name = *static_cast<std::type_identity_t<__VA_ARGS__>*>(::llsa::emu::static_shared( \
      [] {                                                                                  \
        static const char key = 0;                                                          \
        return static_cast<const void*>(&key);                                              \
      }(),                                                                                  \
      sizeof(std::type_identity_t<__VA_ARGS__>), alignof(std::type_identity_t<__VA_ARGS__>)))
#define SIMT_DYNAMIC_SHARED(name) unsigned char* const name = ::llsa::emu::dynamic_shared()

namespace llsa::simt {

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes, LaunchStream to,
            Arguments&&... arguments) {
  static_assert((std::is_trivially_copyable_v<Parameters> && ...),
                "kernel parameters are copied byte by byte");
  const Profiler::Span span(to.stream, reinterpret_cast<const void*>(kernel), [&] {
    return KernelText{to.place.str(), to.place.str()};
  });
  // Parameters are a copy per thread, as on the device.
  emu::run_grid(grid, block, shared_bytes, to,
                [kernel, ... a = static_cast<Parameters>(arguments)] { kernel(a...); });
}

inline unsigned smem_address(const void* p) { return emu::shared_address(p); }

}  // namespace llsa::simt

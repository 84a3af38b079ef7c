// What every kernel file includes first: the same source is compiled by nvcc for the device, and by the host
// compiler (with SIMT_EMU) for an emulator in which the tests run it on the CPU. ptx.h beside it holds all
// inline PTX.
//
//   __global__ void __launch_bounds__(128) my_kernel(const float* x, float* y, int n) {
//     SIMT_SHARED(part, float[4]);   // static:  float part[4]
//     SIMT_DYNAMIC_SHARED(tiles);    // dynamic: unsigned char* tiles, aligned to 128 bytes
//     ...
//   }
//   simt::launch(my_kernel, dim3(blocks), dim3(128), shared_bytes, stream, x, y, n);
//
// Rules for kernels. The emulator finds most breaches. On the device a breach gives wrong results, or stays
// unnoticed for a long time.
//
//  1. Include this header and ptx.h, nothing else of CUDA. Launch through simt::launch, never <<<>>>: it asks
//     for shared memory beyond the usual limit where needed and throws CudaError.
//  2. Inline PTX only in ptx.h, with a body for both worlds. No __CUDA_ARCH__ in kernels: the host chooses
//     the kernel by compute capability, and a wrapper that the architecture lacks traps.
//  3. Shared memory only through the two macros: at most 48 KiB static (16 KiB beside dynamic), 99 KiB
//     together, which every supported GPU has. Dynamic shared memory is aligned to 128 bytes and no more:
//     where a swizzle wants 1024, round up. It begins undefined, as NaN.
//  4. Masks are explicit and complete. No __activemask, no reliance on lanes moving together: between one
//     lane's write to shared memory and another's read stands a __syncwarp or __syncthreads, and again
//     between that read and the next write.
//  5. All lanes of its mask reach a collective (shuffle, vote, reduction, __syncwarp, ldmatrix, mma) at one
//     source line, and all threads of the block a __syncthreads. No return before a later barrier: let
//     threads without work pass it idle.
//  6. cp.async: what a lane copied is there after its cp_async_wait and, for other lanes, a barrier or an
//     mbarrier after that. cp_async_wait<0>() before the kernel ends.
//  7. No waiting for other blocks. "The last block sums up": __threadfence(), an atomic counter,
//     __threadfence().
//  8. No float atomics: results must not depend on the order of blocks. Integers and bits may be atomic.
//  9. Locals in kernels have trivial destructors; parameters are trivially copyable and passed by value.
// 10. Arrays that are indexed at run time spill: base + (i & 1) * stride instead of buffer[i & 1].
//     SIMT_UNROLL stands before a loop whose index selects registers, SIMT_NO_UNROLL before one that shall
//     stay small.
// 11. CUDA's intrinsics (__float_as_uint, __ldg, __popc, __shfl_xor_sync, atomicMax, ...) and the operators
//     of cuda_bf16.h are there in both worlds; one that is missing is added to tests/emu/intrinsics.h. The
//     approximate ones (__expf, __fdividef, rsqrtf) are exact in the emulator: compare emulator and device
//     with tolerances, never by bits.
// 12. No cooperative groups, CUB, Thrust, __constant__ memory or printf in kernels.
#pragma once

#include "launch_stream.h"
#include "shared_limits.h"

#if defined(__CUDACC__)

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <string>
#include <type_traits>

#define SIMT_UNROLL _Pragma("unroll")
#define SIMT_NO_UNROLL _Pragma("unroll 1")
#define SIMT_SHARED(name, ...) __shared__ std::type_identity_t<__VA_ARGS__> name
#define SIMT_DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]

namespace llsa::simt {

/// Raises the kernel's limit of dynamic shared memory where a launch with `bytes` needs it; never lowers it,
/// since another thread may be about to launch.
inline cudaError_t allow_shared(const void* kernel, std::size_t bytes) {
  if (bytes <= kUsualDynamicShared) return cudaSuccess;
  static std::mutex one_at_a_time;
  const std::lock_guard lock(one_at_a_time);
  cudaFuncAttributes has{};
  const cudaError_t error = cudaFuncGetAttributes(&has, kernel);
  if (error != cudaSuccess || has.sharedSizeBytes + bytes <= kUsualShared) return error;
  const cudaError_t raised =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           std::max(static_cast<int>(bytes), has.maxDynamicSharedSizeBytes));
  // Such kernels want as many blocks on a multiprocessor as its shared memory can hold, more than the L1 cache.
  return raised != cudaSuccess ? raised
                               : cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                                      cudaSharedmemCarveoutMaxShared);
}

/// For messages: mangled, or "" where the runtime cannot tell.
inline const char* name_of([[maybe_unused]] const void* kernel) {
  const char* name = "";
#if CUDART_VERSION >= 12040
  if (cudaFuncGetName(&name, kernel) != cudaSuccess || name == nullptr) name = "";
#endif
  return name;
}

/// For a profiler: the kernel's name, and what the runtime makes of a launch.
inline KernelText describe(const void* kernel, dim3 block, std::size_t shared_bytes,
                           const cuda::Place& place) {
  cudaFuncAttributes has{};
  int blocks = 0;
  std::string resources = "unknown";
  if (cudaFuncGetAttributes(&has, kernel) == cudaSuccess &&
      cudaOccupancyMaxActiveBlocksPerMultiprocessor(
          &blocks, kernel, static_cast<int>(block.x * block.y * block.z), shared_bytes) == cudaSuccess)
    resources = cat(blocks, " blocks of ", block.x * block.y * block.z, " per SM, ", has.numRegs,
                    " registers, spilled ", has.localSizeBytes, " B, shared ", has.sharedSizeBytes, " + ",
                    shared_bytes, " B, carve-out ", has.preferredShmemCarveout);
  const char* const name = name_of(kernel);
  return {*name == 0 ? place.str() : kernel_name(name), place.str(), resources};
}

/// Runs kernel(arguments...) on the stream with these sizes, the grid's blocks in any order. Returns at once.
/// Throws CudaError, naming the kernel and the line of this call, if the device refuses the launch; what
/// fails later is reported by a later call.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes, LaunchStream to,
            Arguments&&... arguments) {
  static_assert((std::is_trivially_copyable_v<Parameters> && ...),
                "kernel parameters are copied byte by byte");
  const void* const symbol = reinterpret_cast<const void*>(kernel);
  cudaError_t error = allow_shared(symbol, shared_bytes);
  if (error == cudaSuccess) {
    const Profiler::Span span(to.stream, symbol,
                              [&] { return describe(symbol, block, shared_bytes, to.place); });
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = to.stream;
    error = cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
  }
  if (error != cudaSuccess) cuda::launch_failed(error, name_of(symbol), grid, block, shared_bytes, to.place);
}

/// The address in the shared window that the wrappers of ptx.h take, of a pointer into shared memory.
__device__ __forceinline__ unsigned smem_address(const void* p) {
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

}  // namespace llsa::simt

#elif defined(SIMT_EMU)

#include <emu/kernel_api.h>

#else
#error "kernels are compiled by nvcc, or by a C++ compiler with SIMT_EMU"
#endif

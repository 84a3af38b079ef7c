#pragma once
#include <cuda_runtime.h>
namespace simt {
template <class... P, class... A>
void launch(void (*k)(P...), dim3 g, dim3 b, std::size_t s, cudaStream_t st, A&&... a) {
  cudaLaunchConfig_t c{}; c.gridDim=g; c.blockDim=b; c.dynamicSmemBytes=s; c.stream=st;
  cudaLaunchKernelEx(&c, k, static_cast<P>(a)...);
}
}

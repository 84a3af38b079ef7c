// Small kernels in the style of the library: the first thing that has to run on a new device or a changed
// emulator.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

namespace llsa::test {

/// out[0] = sum of x[0..n). `partials` has one float per block, `counter` is 0 and is left at 0.
void sum(const float* x, int n, float* partials, unsigned* counter, float* out, int blocks,
         cudaStream_t stream);

/// out[c][r] = in[r][c].
void transpose(const float* in, float* out, int rows, int columns, cudaStream_t stream);

/// c [m,n] = a [m,k] b[n,k]^T in f32 from bf16; m, n any, k a multiple of 8.
void gemm(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int m, int n, int k, cudaStream_t stream);

}  // namespace llsa::test

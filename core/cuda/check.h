// Turning failed calls of the CUDA runtime into exceptions. For files compiled with CUDA headers only.
#pragma once

#include <cuda_runtime.h>

namespace llsa::cuda {

/// Throws CudaError with the call's text, its place, the runtime's name for the error, and, where the error
/// has ended the device's context, a hint how to go on.
void check(cudaError_t status, const char* call, const char* file, int line);

}  // namespace llsa::cuda

#define LLSA_CUDA_CHECK(call) ::llsa::cuda::check((call), #call, __FILE__, __LINE__)

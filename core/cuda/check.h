// Turning failed calls of the CUDA runtime into exceptions. For files compiled with CUDA headers only.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "../error.h"

namespace llsa::cuda {

/// What a user can do about an error of the runtime; empty where its name says it all.
std::string hint_for(cudaError_t status);

/// Throws CudaError with the call's text, its place, the runtime's name for the error, and hint_for() it.
void check(cudaError_t status, const char* call, const char* file, int line);

}  // namespace llsa::cuda

#define LLSA_CUDA_CHECK(call) ::llsa::cuda::check((call), #call, __FILE__, __LINE__)

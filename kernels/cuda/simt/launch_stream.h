// Where a kernel is launched: the stream, and the line that does it, for the message if it fails.
#pragma once

#include <cuda_runtime.h>

#include "../../../core/cuda/check.h"
#include "../../../core/profiler.h"

namespace llsa::simt {

/// Converts from a stream, where simt::launch is called.
struct LaunchStream {
  cudaStream_t stream;
  cuda::Place place;

  constexpr LaunchStream(cudaStream_t stream_, cuda::Place place_ = cuda::Place::here())
      : stream(stream_), place(place_) {}
};

}  // namespace llsa::simt

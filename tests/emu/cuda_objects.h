// What the emulated runtime has created and not yet destroyed.
#pragma once

#include <cuda_runtime.h>

namespace llsa::emu {

/// Whether work may be given to this stream: a default stream, or one that cudaStreamCreate made.
bool is_stream(cudaStream_t stream);

}  // namespace llsa::emu

// What the emulated runtime has created and not yet destroyed, and its clock.
#pragma once

#include <cuda_runtime.h>

namespace llsa::emu {

/// Whether work may be given to this stream: a default stream, or one that cudaStreamCreate made.
bool is_stream(cudaStream_t stream);

/// Lets events recorded from now on say that so much more time has passed on the device.
void advance_device_clock(double milliseconds);

}  // namespace llsa::emu

// Which of several ways to do the same work is the fastest on the device.
#pragma once

#include <cstddef>

#include "../../core/context.h"
#include "../../core/function_ref.h"

namespace llsa::kernels::cuda {

/// run(i), i < ways, puts way i into the context's stream; false when that way cannot do it. Every way runs
/// once to warm up, then in some rounds that take turns, so that a change of the clock rate hits them alike;
/// what counts is a way's least time in a round. Returns the fastest, the first one of equals, 0 when none
/// can do it. Waits for the device, once. Throws CudaError. The stream must not be under capture.
std::size_t fastest(Context& ctx, std::size_t ways, FunctionRef<bool(std::size_t)> run);

}  // namespace llsa::kernels::cuda

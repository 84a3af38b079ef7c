// Which of several ways to do the same work is the fastest on the device.
#pragma once

#include <cstddef>

#include "../../core/context.h"
#include "../../core/function_ref.h"

namespace llsa::kernels::cuda {

/// run(i), i < ways, launches way i in the context's stream; it returns false when that way cannot do the work.
/// Every way runs once to warm up. Then the ways take turns for some rounds, so that a change of the clock rate
/// affects all of them alike, and the least time of a way counts. Returns the fastest, the first one of equals, or
/// 0 when none can do the work. Waits for the device, once. Throws CudaError. The stream must not be captured.
std::size_t fastest(Context& ctx, std::size_t ways, FunctionRef<bool(std::size_t)> run);

}  // namespace llsa::kernels::cuda

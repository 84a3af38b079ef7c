// Between the memory of a context's device and that of the host, for what files and pictures hold. On the CPU
// both are the same and nothing is copied.
#pragma once

#include "../core/context.h"

namespace llsa {

/// x, on the context's device, as a tensor on the CPU. The host waits for the device.
Tensor to_host(Context& ctx, const Tensor& x);
/// x, a tensor on the CPU, on the context's device. Throws DeviceError for another x.
Tensor from_host(Context& ctx, const Tensor& x);

}  // namespace llsa

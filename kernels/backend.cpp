// Chooses the backend of a device.
#include "kernels/backend.h"

namespace llsa::kernels {

const Backend& backend(Device device) {
  if (device.is_cpu()) return cpu::kBackend;
  if (cuda::kBackend == nullptr)
    throw DeviceError("[backend] this build has no CUDA", "build with a CUDA toolkit, or use the device cpu");
  return *cuda::kBackend;
}

}  // namespace llsa::kernels

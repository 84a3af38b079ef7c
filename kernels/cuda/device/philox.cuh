// Random numbers in kernels: integers and uniforms are those of core/philox.h, bit for bit. Normals agree to 1e-6
// only, because the device computes logarithms and cosines by functions of its own.
#pragma once

#include <cmath>

#include "../../../core/philox.h"
#include "../simt/simt.h"

namespace llsa::kernels::cuda {

struct NormalPair {
  float first, second;
};

/// Two standard normals from two words; as Philox::box_muller computes them on the CPU.
__device__ inline NormalPair box_muller(std::uint32_t w0, std::uint32_t w1) {
  const float u = (static_cast<float>(w0 >> 8) + 0.5f) * 0x1p-24f;
  const float r = std::sqrt(-2.0f * std::log(u));
  const float angle = 6.28318530717958648f * Philox::to_uniform(w1);
  return {r * std::cos(angle), r * std::sin(angle)};
}

}  // namespace llsa::kernels::cuda

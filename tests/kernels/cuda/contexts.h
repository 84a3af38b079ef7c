// A CPU context and a CUDA one (emulated or real) side by side, and how far apart their results are.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iostream>
#include <limits>
#include <vector>

#include "core/context.h"
#include "kernels/copy.h"

namespace llsa::test {

/// Whether there is a device to test on; prints why not.
inline bool cuda_device() {
  if (cuda::device_count() > 0) return true;
  std::cout << "skipped: no CUDA device\n";
  return false;
}

struct Contexts {
  Context cpu{1};
  Context gpu{Device{DeviceType::cuda, 0}, 1};

  Tensor to_gpu(const Tensor& x) { return x.defined() ? kernels::transfer(cpu, x, gpu) : x; }
  Tensor to_cpu(const Tensor& x) { return x.defined() ? kernels::transfer(gpu, x, cpu) : x; }
};

/// max |a - b| / max(max |b|, floor), the maxima over all tensors together; a NaN, or one that is missing,
/// counts as infinite. All tensors are on the CPU.
inline double difference(Context& cpu, const std::vector<Tensor>& a, const std::vector<Tensor>& b,
                         double floor = 1e-2) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (a.size() != b.size()) return kInfinity;
  double worst = 0, scale = 0;
  for (std::size_t t = 0; t < a.size(); ++t) {
    if (!a[t].defined() && !b[t].defined()) continue;
    if (!a[t].defined() || !b[t].defined() || !(a[t].shape() == b[t].shape())) return kInfinity;
    const auto x = kernels::to_vector<double>(cpu, a[t]), y = kernels::to_vector<double>(cpu, b[t]);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double d = x[i] == y[i] ? 0.0 : std::abs(x[i] - y[i]);
      if (!(d <= worst)) worst = std::isnan(d) ? kInfinity : d;
      scale = std::max(scale, std::abs(y[i]));
    }
  }
  return worst / (scale > 1e-12 ? std::max(scale, floor) : 1.0);
}

inline double difference(Context& cpu, const Tensor& a, const Tensor& b, double floor = 1e-2) {
  return difference(cpu, std::vector<Tensor>{a}, std::vector<Tensor>{b}, floor);
}

}  // namespace llsa::test

// Flow matching on the CPU. The four Philox words of a counter belong to one sample: counter = sample id.
#include "kernels/backend/training.h"

#include <array>
#include <cmath>

#include "core/philox.h"

namespace llsa::kernels::cpu {
namespace {

void noise_levels(Context&, const Tensor& ids, NoiseLevel law, const LogitNormal& normal, std::uint64_t seed,
                  std::uint64_t stream, const Tensor& sigma) {
  const Philox random{seed, stream};
  for (std::int64_t i = 0; i < ids.numel(); ++i) {
    const auto words = random.words(static_cast<std::uint64_t>(ids.data<std::int64_t>()[i]));
    double level;
    if (law == NoiseLevel::uniform) {
      level = static_cast<double>(((static_cast<std::uint64_t>(words[0]) * 1000) >> 32) + 1) / 1000.0;
    } else {
      const double z = Philox::box_muller(words[0], words[1]).first;
      const double logit = normal.mean + normal.deviation * z;
      level = 1.0 - std::fmin(999.0, std::floor(1000.0 / (1.0 + std::exp(-logit)))) / 1000.0;
    }
    sigma.data<float>()[i] = static_cast<float>(level);
  }
}

void drop_classes(Context&, const Tensor& y, const Tensor& ids, double probability, std::int32_t null_class,
                  std::uint64_t seed, std::uint64_t stream, const Tensor& out) {
  const Philox random{seed, stream};
  for (std::int64_t i = 0; i < ids.numel(); ++i) {
    const auto words = random.words(static_cast<std::uint64_t>(ids.data<std::int64_t>()[i]));
    const bool drop = Philox::to_uniform(words[0]) < probability;
    out.data<std::int32_t>()[i] = drop ? null_class : y.data<std::int32_t>()[i];
  }
}

void class_rows(Context&, const Tensor& y, std::int32_t classes, const Tensor& rows) {
  const std::int64_t batch = y.numel();
  for (std::int64_t i = 0; i < batch; ++i) {
    const std::int32_t c = y.data<std::int32_t>()[i];
    if (c < 0 || c >= classes)
      throw ValueError(
          cat("[class_rows] expected classes from 0 to ", classes - 1, ", got ", c, " for sample ", i));
    for (std::int64_t l = 0; l < rows.size(0); ++l)
      rows.data<std::int32_t>()[l * batch + i] = static_cast<std::int32_t>(l) * classes + c;
  }
}

void flow_mix(Context& ctx, const Tensor& x, const Tensor& eps, const Tensor& sigma, double scale,
              const Tensor& x_t, const Tensor& target) {
  if (x.numel() == 0) return;
  const std::int64_t row = x.numel() / x.size(0);
  visit_floating(x.dtype(), "flow_mix", [&]<class T>() {
    using A = accumulator_t<T>;
    ctx.pool().parallel_for(x.size(0), [&](std::int64_t i) {
      const A noise = static_cast<A>(sigma.data<float>()[i]);
      const A clean = A(1) - noise;
      const A s = static_cast<A>(scale);
      const T* xs = x.data<T>() + i * row;
      const T* es = eps.data<T>() + i * row;
      T* noisy = x_t.data<T>() + i * row;
      T* wanted = target.data<T>() + i * row;
#pragma omp simd
      for (std::int64_t j = 0; j < row; ++j) {
        const A scaled = s * static_cast<A>(es[j]);
        noisy[j] = T(clean * static_cast<A>(xs[j]) + noise * scaled);
        wanted[j] = T(scaled - static_cast<A>(xs[j]));
      }
    });
  });
}

constexpr std::int64_t kHalf = 128;

std::array<float, kHalf> make_frequencies() {
  std::array<float, kHalf> f{};
  for (std::int64_t i = 0; i < kHalf; ++i)
    f[static_cast<std::size_t>(i)] = static_cast<float>(
        std::exp(-std::log(10000.0) * static_cast<double>(i) / static_cast<double>(kHalf - 1)));
  return f;
}

void time_embedding(Context&, const Tensor& t, const Tensor& out) {
  static const std::array<float, kHalf> frequencies = make_frequencies();
  const float* times = t.data<float>();
  visit_floating(out.dtype(), "time_embedding", [&]<class T>() {
    for (std::int64_t i = 0; i < t.numel(); ++i) {
      T* row = out.data<T>() + i * 2 * kHalf;
      for (std::int64_t j = 0; j < kHalf; ++j) {
        const float angle = times[i] * frequencies[static_cast<std::size_t>(j)];
        row[j] = T(static_cast<accumulator_t<T>>(std::cos(angle)));
        row[kHalf + j] = T(static_cast<accumulator_t<T>>(std::sin(angle)));
      }
    }
  });
}

}  // namespace

constinit const DiffusionBackend kDiffusion = {.noise_levels = noise_levels,
                                               .drop_classes = drop_classes,
                                               .class_rows = class_rows,
                                               .flow_mix = flow_mix,
                                               .time_embedding = time_embedding};

}  // namespace llsa::kernels::cpu

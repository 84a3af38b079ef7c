// Flow matching:
//
//     levels   sigma = k / 1000: k in 1..1000 uniform, or 1000 - floor(1000 sigmoid(z)) >= 1 with z normal
//     drop     a class becomes the null class with a given probability
//     rows     class y in table t of several is row t classes + y
//     mix      x_t = (1 - sigma) x + sigma scale eps,  target = scale eps - x
//     time     cos(t f_j), sin(t f_j) with f_j = 10000^(-j / 127), j = 0..127
//
// The four Philox words of a counter belong to one sample: the counter is the sample id. A class out of range
// cannot be an exception, because the host would have to wait for it: its rows are -1, which the embedding turns
// into NaN.
//
// A thread per sample, per row number, per element of x (mix), or per j of a sample (time). Bytes per element of
// mix: 16 in f32, 8 in bf16, for 6 FLOP. mix is bound by memory; in bf16 the division that finds the sample costs
// as much. The other kernels write at most 256 numbers per sample and are bound by their launches.
#include "kernels/backend/training.h"

#include <cmath>

#include "kernels/cuda/device/launch.cuh"
#include "kernels/cuda/device/philox.cuh"
#include "kernels/cuda/device/types.cuh"

namespace llsa::kernels::cuda {
namespace {

constexpr int kHalf = 128;

__global__ void draw_levels(std::int64_t n, const std::int64_t* ids, NoiseLevel law, LogitNormal normal,
                            Philox random, float* sigma) {
  const std::int64_t i = piece_of_thread();
  if (i >= n) return;
  const auto words = random.words(static_cast<std::uint64_t>(ids[i]));
  double level;
  if (law == NoiseLevel::uniform) {
    level = static_cast<double>(((static_cast<std::uint64_t>(words[0]) * 1000) >> 32) + 1) / 1000.0;
  } else {
    const double z = static_cast<double>(box_muller(words[0], words[1]).first);
    const double logit = normal.mean + normal.deviation * z;
    level = 1.0 - std::fmin(999.0, std::floor(1000.0 / (1.0 + std::exp(-logit)))) / 1000.0;
  }
  sigma[i] = static_cast<float>(level);
}

__global__ void drop(std::int64_t n, const std::int32_t* y, const std::int64_t* ids, double probability,
                     std::int32_t null_class, Philox random, std::int32_t* out) {
  const std::int64_t i = piece_of_thread();
  if (i >= n) return;
  const auto words = random.words(static_cast<std::uint64_t>(ids[i]));
  out[i] = static_cast<double>(Philox::to_uniform(words[0])) < probability ? null_class : y[i];
}

__global__ void number_rows(std::int64_t tables, std::int64_t batch, const std::int32_t* y,
                            std::int32_t classes, std::int32_t* rows) {
  const std::int64_t i = piece_of_thread();
  if (i >= tables * batch) return;
  const std::int32_t c = y[i % batch];
  rows[i] = c >= 0 && c < classes ? static_cast<std::int32_t>(i / batch) * classes + c : -1;
}

template <class T, class A>
__global__ void mix(std::int64_t n, std::int64_t row, const T* x, const T* eps, const float* sigma, A scale,
                    T* x_t, T* target) {
  const std::int64_t i = piece_of_thread();
  if (i >= n) return;
  const A noise = static_cast<A>(sigma[i / row]);
  const A scaled = scale * static_cast<A>(eps[i]), clean = static_cast<A>(x[i]);
  x_t[i] = static_cast<T>((A(1) - noise) * clean + noise * scaled);
  target[i] = static_cast<T>(scaled - clean);
}

struct Frequencies {
  float value[kHalf];
};

template <class T>
__global__ void embed_time(std::int64_t n, const float* t, Frequencies frequencies, T* out) {
  using A = accumulator_t<T>;
  const std::int64_t i = piece_of_thread();
  if (i >= n * kHalf) return;
  const std::int64_t sample = i / kHalf, j = i % kHalf;
  const float angle = t[sample] * frequencies.value[j];
  T* const row = out + sample * 2 * kHalf;
  row[j] = static_cast<T>(static_cast<A>(std::cos(angle)));
  row[kHalf + j] = static_cast<T>(static_cast<A>(std::sin(angle)));
}

Frequencies make_frequencies() {
  Frequencies f{};
  for (int i = 0; i < kHalf; ++i)
    f.value[i] = static_cast<float>(
        std::exp(-std::log(10000.0) * static_cast<double>(i) / static_cast<double>(kHalf - 1)));
  return f;
}

void noise_levels(Context& ctx, const Tensor& ids, NoiseLevel law, const LogitNormal& normal,
                  std::uint64_t seed, std::uint64_t stream, const Tensor& sigma) {
  launch_threads(ctx, draw_levels, ids.numel(), ids.numel(), ids.data<std::int64_t>(), law, normal,
                 Philox{seed, stream}, sigma.data<float>());
}

void drop_classes(Context& ctx, const Tensor& y, const Tensor& ids, double probability,
                  std::int32_t null_class, std::uint64_t seed, std::uint64_t stream, const Tensor& out) {
  launch_threads(ctx, drop, ids.numel(), ids.numel(), y.data<std::int32_t>(), ids.data<std::int64_t>(),
                 probability, null_class, Philox{seed, stream}, out.data<std::int32_t>());
}

void class_rows(Context& ctx, const Tensor& y, std::int32_t classes, const Tensor& rows) {
  launch_threads(ctx, number_rows, rows.numel(), rows.size(0), y.numel(), y.data<std::int32_t>(), classes,
                 rows.data<std::int32_t>());
}

void flow_mix(Context& ctx, const Tensor& x, const Tensor& eps, const Tensor& sigma, double scale,
              const Tensor& x_t, const Tensor& target) {
  if (x.numel() == 0) return;
  visit_device(x.dtype(), "flow_mix", [&]<class T>() {
    using A = accumulator_t<T>;
    launch_threads(ctx, mix<T, A>, x.numel(), x.numel(), x.numel() / x.size(0), device_data<T>(x),
                   device_data<T>(eps), sigma.data<float>(), static_cast<A>(scale), device_data<T>(x_t),
                   device_data<T>(target));
  });
}

void time_embedding(Context& ctx, const Tensor& t, const Tensor& out) {
  const Frequencies frequencies = make_frequencies();
  visit_device(out.dtype(), "time_embedding", [&]<class T>() {
    launch_threads(ctx, embed_time<T>, t.numel() * kHalf, t.numel(), t.data<float>(), frequencies,
                   device_data<T>(out));
  });
}

}  // namespace

constinit const DiffusionBackend kDiffusion = {.noise_levels = noise_levels,
                                               .drop_classes = drop_classes,
                                               .class_rows = class_rows,
                                               .flow_mix = flow_mix,
                                               .time_embedding = time_embedding};

}  // namespace llsa::kernels::cuda

#include "nn/diffusion/cascade_sampler.h"

#include <array>
#include <cmath>
#include <string>

#include "kernels/elementwise.h"
#include "kernels/random.h"
#include "nn/diffusion/cascade.h"
#include "nn/diffusion/sample_batches.h"
#include "nn/init.h"

namespace llsa::nn {
namespace {

constexpr double kLastTau = 0.999;
constexpr std::array<double, kCascadeStages> kGuidanceShare = {0.0, 1.0 / 6.0, 2.0 / 3.0, 1.0};

std::uint64_t noise_stream(int stage) {
  return name_stream("cascade sampler noise " + std::to_string(stage));
}

/// What does not depend on the stages.
SampleOptions common(const CascadeSampleOptions& options) {
  return {.count = options.count,
          .first = options.first,
          .classes = options.classes,
          .guidance = options.guidance,
          .batch = options.batch};
}

void check_steps(int steps) {
  if (steps < 1) throw ValueError(cat("[cascade_sampler] expected at least 1 step, got ", steps));
}

}  // namespace

Tensor square_noise(Context& ctx, const Tensor& z) {
  const Tensor means = twice(ctx, halve(ctx, z));
  return kernels::affine(ctx, kernels::sub(ctx, z, means), std::sqrt(4.0 / 3.0), 0.0);
}

Tensor enter_stage(Context& ctx, int stage, const Tensor& x, const Tensor& noise) {
  if (stage < 1 || stage >= kCascadeStages)
    throw ValueError(
        cat("[cascade_sampler] expected a stage from 1 to ", kCascadeStages - 1, ", got ", stage));
  const double original = static_cast<double>(stage) / kCascadeStages;
  const double a = 1.0 / (2.0 - original);
  return kernels::add(ctx, kernels::affine(ctx, twice(ctx, x), a, 0.0),
                      kernels::affine(ctx, noise, a * (1.0 - original) * std::sqrt(3.0), 0.0));
}

Tensor cascade_euler(Context& ctx, const Denoiser& model, int stage, const Tensor& x, const Tensor& y,
                     double guidance, int steps, FunctionRef<bool(const Tensor&)> after_step) {
  check_steps(steps);
  if (x.rank() != 4)
    throw ShapeError(cat("[cascade_sampler] expected images [n,c,height,width], got ", x.shape()));
  const CascadeStage s = cascade_stage(stage);
  const double weight = 1.0 + (guidance - 1.0) * kGuidanceShare[static_cast<std::size_t>(stage)];
  const GuidedFlow flow(ctx, model, x.size(0), y, weight);
  const auto tau = [&](int i) {
    if (i == steps) return 1.0;
    return i == 0 ? 0.0 : kLastTau * static_cast<double>(i) / static_cast<double>(steps - 1);
  };
  Tensor image = x;
  for (int i = 0; i < steps; ++i) {
    const Tensor v = flow(image, s.time + s.time_step * 1000.0 * tau(i));
    image = kernels::add(ctx, image, kernels::affine(ctx, v, tau(i + 1) - tau(i), 0.0));
    if (!after_step(image)) return {};
  }
  return image;
}

std::vector<std::int32_t> sample_classes(const Denoiser& model, const CascadeSampleOptions& options) {
  return sample_classes(model, common(options));
}

Tensor sample_cascade(Context& ctx, const Denoiser& model, const CascadeSampleOptions& options,
                      const Callbacks& callbacks) {
  check_steps(options.steps);
  const int least = 1 << (kCascadeStages - 1);
  if (model.height % least != 0 || model.width % least != 0)
    throw ValueError(cat("[cascade_sampler] expected sides that ", least, " divides, got ", model.height,
                         " x ", model.width));
  const int total = kCascadeStages * options.steps;
  const auto draw = [&](const Tensor& ids, const Tensor& y, FunctionRef<bool()> go_on) {
    int done = 0;
    const auto after_step = [&](const Tensor&) {
      const bool last = ++done == total;
      return go_on() || last;
    };
    Tensor x;
    for (int s = 0; s < kCascadeStages; ++s) {
      const int factor = 1 << (kCascadeStages - 1 - s);
      const Tensor z = kernels::random_normal_samples(
          ctx, Shape{ids.size(0), model.channels, model.height / factor, model.width / factor}, model.dtype,
          options.seed, noise_stream(s), ids);
      x = s == 0 ? z : enter_stage(ctx, s, x, square_noise(ctx, z));
      x = cascade_euler(ctx, model, s, x, y, options.guidance, options.steps, after_step);
      if (!x.defined()) break;
    }
    return x;
  };
  return sample_batches(ctx, model, common(options), total, callbacks, draw);
}

}  // namespace llsa::nn

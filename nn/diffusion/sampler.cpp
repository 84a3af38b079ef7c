// Integration of the learnt flow.
#include "nn/diffusion/sampler.h"

#include "core/function_ref.h"
#include "kernels/elementwise.h"
#include "kernels/random.h"
#include "nn/diffusion/flow.h"
#include "nn/diffusion/sample_batches.h"
#include "nn/init.h"
#include "nn/number_list.h"

namespace llsa::nn {
namespace {

// The end of the integration. go_on() is asked after every step; if it answers false before the last one, the
// result is undefined.
Tensor integrate(Context& ctx, const Denoiser& model, const Tensor& start, const Tensor& y,
                 const SampleOptions& options, FunctionRef<bool()> go_on) {
  const GuidedFlow guided_flow(ctx, model, start.size(0), y, options.guidance);
  const auto flow = [&](const Tensor& x, double sigma) {
    const bool guide = options.guided[0] <= 1.0 - sigma && 1.0 - sigma <= options.guided[1];
    return guided_flow(x, 1000.0 * sigma, guide);
  };
  const auto levels = euler_levels(options.steps);
  Tensor x = start;
  for (std::size_t i = 0; i + 1 < levels.size(); ++i) {
    const double step = levels[i + 1] - levels[i];
    const auto moved = [&](const Tensor& v, double by) {
      return kernels::add(ctx, x, kernels::affine(ctx, v, by, 0.0));
    };
    const Tensor v = flow(x, levels[i]);
    Tensor next = moved(v, step);
    if (options.sampler == Sampler::heun && levels[i + 1] > 0.0)
      next = moved(kernels::add(ctx, v, flow(next, levels[i + 1])), 0.5 * step);
    x = next;
    if (!go_on() && i + 2 < levels.size()) return {};
  }
  return x;
}

// The deviation of the noise. At another size the model's own is scaled as it would have been in training.
double noise_scale(const Denoiser& model, const SampleOptions& options, std::int64_t height,
                   std::int64_t width) {
  if (options.noise_scale > 0.0) return options.noise_scale;
  if (model.noise_scale <= 0.0) return noise_rescale(height, width);
  return model.noise_scale * (noise_rescale(height, width) / noise_rescale(model.height, model.width));
}

}  // namespace

Sampler sampler_kind(const std::string& name) {
  if (name == "euler") return Sampler::euler;
  if (name == "heun") return Sampler::heun;
  throw ValueError(cat("[sampler] expected \"euler\" or \"heun\", got \"", name, '"'));
}

GuidanceInterval guidance_interval(const std::string& text) {
  const std::vector<double> ends = number_list(text);
  if (ends.size() != 2 || !is_valid({ends[0], ends[1]}))
    throw ValueError(cat("a guidance interval is a,b with 0 <= a <= b <= 1, got '", text, "'"),
                     "0 is noise, 1 is the image: 0.1,1 guides all levels but the noisiest");
  return {ends[0], ends[1]};
}

std::vector<double> euler_levels(int steps) {
  if (steps < 1) throw ValueError(cat("[sampler] expected at least 1 step, got ", steps));
  std::vector<double> levels(static_cast<std::size_t>(steps) + 1, 0.0);
  for (int i = 0; i < steps; ++i)
    levels[static_cast<std::size_t>(i)] =
        (1000.0 - (steps > 1 ? 999.0 * static_cast<double>(i) / static_cast<double>(steps - 1) : 0.0)) /
        1000.0;
  return levels;
}

Tensor integrate_flow(Context& ctx, const Denoiser& model, const Tensor& start, const Tensor& y,
                      const SampleOptions& options) {
  if (start.rank() != 4)
    throw ShapeError(cat("[sampler] expected a start [n,c,height,width], got ", start.shape()));
  return integrate(ctx, model, start, y, options, [] { return true; });
}

Tensor euler(Context& ctx, const Denoiser& model, const Tensor& start, const Tensor& y, double guidance,
             int steps) {
  return integrate_flow(ctx, model, start, y, {.guidance = guidance, .steps = steps});
}

std::vector<std::int32_t> sample_classes(const Denoiser& model, const SampleOptions& options) {
  if (model.classes == 0) return {};
  std::vector<std::int32_t> classes(static_cast<std::size_t>(options.count));
  for (std::size_t i = 0; i < classes.size(); ++i) {
    const std::size_t number = i + static_cast<std::size_t>(options.first);
    classes[i] = options.classes.empty()
                     ? static_cast<std::int32_t>(number % static_cast<std::size_t>(model.classes))
                     : options.classes[number % options.classes.size()];
  }
  return classes;
}

Tensor sample(Context& ctx, const Denoiser& model, const SampleOptions& options, const Callbacks& callbacks) {
  if (model.cascade)
    throw ValueError("[sampler] expected a model without stages, got one that learns in stages",
                     "draw with sample_cascade(), or with the draw() of a PixelFlow");
  const std::uint64_t stream = name_stream("sampler start");
  const auto draw = [&](const Tensor& ids, const Tensor& y, FunctionRef<bool()> go_on) {
    const std::int64_t height = options.height > 0 ? options.height : model.height;
    const std::int64_t width = options.width > 0 ? options.width : model.width;
    // Image i starts from noise of its own, whatever batch it is in.
    const Tensor noise = kernels::random_normal_samples(
        ctx, Shape{ids.size(0), model.channels, height, width}, model.dtype, options.seed, stream, ids);
    const double scale = noise_scale(model, options, height, width);
    return integrate(ctx, model, kernels::affine(ctx, noise, scale, 0.0), y, options, go_on);
  };
  return sample_batches(ctx, model, options, options.steps, callbacks, draw);
}

}  // namespace llsa::nn

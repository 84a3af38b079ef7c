// Euler integration of the learnt flow.
#include "nn/diffusion/sampler.h"

#include <algorithm>
#include <numeric>

#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/random.h"
#include "nn/diffusion/flow.h"
#include "nn/init.h"

namespace llsa::nn {
namespace {

/// Called after every step.
using StepDone = std::function<void()>;

Tensor integrate(Context& ctx, Dit& model, const Tensor& start, const Tensor& y, double guidance, int steps,
                 const StepDone& step_done) {
  const NoGrad no_grad;
  const std::int64_t n = start.size(0);
  const bool guided = model.config().classes > 0 && guidance != 1.0;
  Tensor classes = y;
  if (guided) {  // one batch holds the images with their class, then again without
    const Tensor none = ctx.empty(Shape{n}, DType::i32);
    kernels::fill(ctx, none, model.null_class());
    classes = kernels::concat(ctx, {y, none}, 0);
  }
  const auto levels = euler_levels(steps);
  Tensor x = start;
  for (std::size_t i = 0; i + 1 < levels.size(); ++i) {
    const Tensor in = guided ? kernels::concat(ctx, {x, x}, 0) : x;
    const Tensor t = ctx.empty(Shape{in.size(0)}, DType::f32);
    kernels::fill(ctx, t, 1000.0 * levels[i]);
    Tensor v = kernels::cast(ctx, model.forward(Var(ctx, in), t, classes).value(), x.dtype());
    if (guided) {
      const Tensor with = v.slice(0, 0, n);
      const Tensor without = v.slice(0, n, 2 * n);
      v = kernels::add(ctx, without, kernels::affine(ctx, kernels::sub(ctx, with, without), guidance, 0.0));
    }
    x = kernels::add(ctx, x, kernels::affine(ctx, v, levels[i + 1] - levels[i], 0.0));
    if (step_done) step_done();
  }
  return x;
}

void check_same_channels(const Dit& model) {
  const DitConfig& c = model.config();
  if (c.in_channels != c.out_channels)
    throw ValueError(cat("[sampler] a flow needs as many output as input channels, the model has ",
                         c.out_channels, " and ", c.in_channels));
}

}  // namespace

std::vector<double> euler_levels(int steps) {
  if (steps < 1) throw ValueError(cat("[sampler] expected at least 1 step, got ", steps));
  std::vector<double> levels(static_cast<std::size_t>(steps) + 1, 0.0);
  for (int i = 0; i < steps; ++i)
    levels[static_cast<std::size_t>(i)] =
        (1000.0 - (steps > 1 ? 999.0 * static_cast<double>(i) / static_cast<double>(steps - 1) : 0.0)) /
        1000.0;
  return levels;
}

Tensor euler(Context& ctx, Dit& model, const Tensor& start, const Tensor& y, double guidance, int steps) {
  check_same_channels(model);
  if (start.rank() != 4)
    throw ShapeError(cat("[sampler] expected a start [n,c,height,width], got ", start.shape()));
  return integrate(ctx, model, start, y, guidance, steps, {});
}

Tensor sample(Context& ctx, Dit& model, const SampleOptions& options,
              const std::function<void(std::int64_t, std::int64_t)>& progress) {
  check_same_channels(model);
  const DitConfig& config = model.config();
  if (options.count < 0 || options.batch < 1)
    throw ValueError(cat("[sampler] expected a count of at least 0 and a batch of at least 1, got ",
                         options.count, " and ", options.batch));
  if (!(options.guidance >= 0.0))
    throw ValueError(cat("[sampler] expected a guidance of at least 0, got ", options.guidance));
  for (const std::int32_t c : options.classes)
    if (config.classes > 0 && (c < 0 || c > config.classes))
      throw ValueError(cat("[sampler] expected classes from 0 to ", config.classes - 1, " (", config.classes,
                           " = no class), got ", c));
  const std::int64_t height = options.height > 0 ? options.height : config.height;
  const std::int64_t width = options.width > 0 ? options.width : config.width;
  check_sides(height, width, config.patch);
  const double scale = options.noise_scale > 0.0 ? options.noise_scale : noise_rescale(height, width);
  const DType dtype = model.parameters().dtype() == DType::f64 ? DType::f64 : DType::f32;
  const std::uint64_t stream = name_stream("sampler start");

  Tensor images = ctx.empty(Shape{options.count, config.out_channels, height, width}, dtype);
  const std::int64_t batches = (options.count + options.batch - 1) / options.batch;
  std::int64_t steps_done = 0;
  for (std::int64_t begin = 0; begin < options.count; begin += options.batch) {
    const std::int64_t end = std::min(options.count, begin + options.batch);
    std::vector<std::int64_t> ids(static_cast<std::size_t>(end - begin));
    std::iota(ids.begin(), ids.end(), begin);
    std::vector<std::int32_t> classes(ids.size());
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const auto image = static_cast<std::uint64_t>(ids[i]);
      if (!options.classes.empty())
        classes[i] = options.classes[image % options.classes.size()];
      else if (config.classes > 0)
        classes[i] = static_cast<std::int32_t>(image % static_cast<std::uint64_t>(config.classes));
    }
    const Shape count{end - begin};
    // Image i starts from noise of its own, whatever batch it is in.
    const Tensor noise =
        kernels::random_normal_samples(ctx, Shape{end - begin, config.in_channels, height, width}, dtype,
                                       options.seed, stream, kernels::from_vector(ctx, ids, count));
    const Tensor result =
        integrate(ctx, model, kernels::affine(ctx, noise, scale, 0.0),
                  kernels::from_vector(ctx, classes, count), options.guidance, options.steps, [&] {
                    ++steps_done;
                    if (progress) progress(steps_done, batches * options.steps);
                  });
    kernels::copy(ctx, result, images.slice(0, begin, end));
  }
  return images;
}

Tensor to_unit_range(Context& ctx, const Tensor& images) {
  // clamp(u, 0, 1) = relu(u) - relu(u - 1)
  const Tensor unit = kernels::affine(ctx, images, 0.5, 0.5);
  return kernels::sub(ctx, kernels::relu(ctx, unit),
                      kernels::relu(ctx, kernels::affine(ctx, unit, 1.0, -1.0)));
}

}  // namespace llsa::nn

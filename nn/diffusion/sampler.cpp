// Euler integration of the learnt flow.
#include "nn/diffusion/sampler.h"

#include <algorithm>
#include <numeric>

#include "core/function_ref.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/random.h"
#include "nn/diffusion/flow.h"
#include "nn/init.h"

namespace llsa::nn {
namespace {

// The end of the integration. go_on() is asked after every step; if it answers false before the last one, the
// result is undefined.
Tensor integrate(Context& ctx, const Denoiser& model, const Tensor& start, const Tensor& y, double guidance,
                 int steps, FunctionRef<bool()> go_on) {
  const NoGrad no_grad;
  const std::int64_t n = start.size(0);
  const bool guided = model.classes > 0 && guidance != 1.0;
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
    Tensor v = kernels::cast(ctx, model(Var(ctx, in), t, classes).value(), x.dtype());
    if (v.shape() != in.shape())
      throw ShapeError(cat("[sampler] the flow has the shape of the images, ", in.shape(),
                           ", but the model predicted ", v.shape()));
    if (guided) {
      const Tensor with = v.slice(0, 0, n);
      const Tensor without = v.slice(0, n, 2 * n);
      v = kernels::add(ctx, without, kernels::affine(ctx, kernels::sub(ctx, with, without), guidance, 0.0));
    }
    x = kernels::add(ctx, x, kernels::affine(ctx, v, levels[i + 1] - levels[i], 0.0));
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

void check_options(const Denoiser& model, const SampleOptions& options) {
  if (options.count < 0 || options.first < 0 || options.batch < 1)
    throw ValueError(
        cat("[sampler] expected a count and a first image of at least 0 and a batch of at least 1, got ",
            options.count, ", ", options.first, " and ", options.batch));
  if (!(options.guidance >= 0.0))
    throw ValueError(cat("[sampler] expected a guidance of at least 0, got ", options.guidance));
  for (const std::int32_t c : options.classes)
    if (model.classes > 0 && (c < 0 || c > model.classes))
      throw ValueError(cat("[sampler] expected classes from 0 to ", model.classes - 1, " (", model.classes,
                           " = no class), got ", c));
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

Tensor euler(Context& ctx, const Denoiser& model, const Tensor& start, const Tensor& y, double guidance,
             int steps) {
  if (start.rank() != 4)
    throw ShapeError(cat("[sampler] expected a start [n,c,height,width], got ", start.shape()));
  return integrate(ctx, model, start, y, guidance, steps, [] { return true; });
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
  check_options(model, options);
  const std::int64_t height = options.height > 0 ? options.height : model.height;
  const std::int64_t width = options.width > 0 ? options.width : model.width;
  if (height < 1 || width < 1)
    throw ValueError(cat("[sampler] expected images of at least 1 x 1, got ", height, " x ", width),
                     "set the size in SampleOptions or in the Denoiser");
  const double scale = noise_scale(model, options, height, width);
  const std::uint64_t stream = name_stream("sampler start");
  const std::vector<std::int32_t> all_classes = sample_classes(model, options);

  Tensor images = ctx.empty(Shape{options.count, model.channels, height, width}, model.dtype);
  const std::int64_t batches = (options.count + options.batch - 1) / options.batch;
  std::int64_t steps_done = 0, images_done = 0;
  bool stopped = false;
  const auto go_on = [&] {
    ++steps_done;
    if (callbacks.on_progress) callbacks.on_progress(steps_done, batches * options.steps);
    stopped = callbacks.should_stop && callbacks.should_stop();
    return !stopped;
  };
  for (std::int64_t begin = 0; begin < options.count && !stopped; begin += options.batch) {
    const std::int64_t end = std::min(options.count, begin + options.batch);
    const Shape count{end - begin};
    std::vector<std::int64_t> ids(static_cast<std::size_t>(end - begin));
    std::iota(ids.begin(), ids.end(), options.first + begin);
    Tensor classes;
    if (!all_classes.empty())
      classes = kernels::from_vector(
          ctx, std::vector<std::int32_t>(all_classes.begin() + begin, all_classes.begin() + end), count);
    // Image i starts from noise of its own, whatever batch it is in.
    const Tensor noise =
        kernels::random_normal_samples(ctx, Shape{end - begin, model.channels, height, width}, model.dtype,
                                       options.seed, stream, kernels::from_vector(ctx, ids, count));
    const Tensor result = integrate(ctx, model, kernels::affine(ctx, noise, scale, 0.0), classes,
                                    options.guidance, options.steps, go_on);
    if (!result.defined()) break;
    kernels::copy(ctx, result, images.slice(0, begin, end));
    images_done = end;
  }
  return images.slice(0, 0, images_done);
}

}  // namespace llsa::nn

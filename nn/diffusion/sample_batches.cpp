#include "nn/diffusion/sample_batches.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/copy.h"
#include "kernels/elementwise.h"

namespace llsa::nn {
namespace {

void check_options(const Denoiser& model, const SampleOptions& options) {
  if (options.count < 0 || options.first < 0 || options.batch < 1)
    throw ValueError(
        cat("[sampler] expected a count and a first image of at least 0 and a batch of at least 1, got ",
            options.count, ", ", options.first, " and ", options.batch));
  if (!(options.guidance >= 0.0))
    throw ValueError(cat("[sampler] expected a guidance of at least 0, got ", options.guidance));
  if (!is_valid(options.guided))
    throw ValueError(cat("[sampler] expected a guidance interval from 0 to 1, got ", options.guided[0],
                         " to ", options.guided[1]));
  for (const std::int32_t c : options.classes)
    if (model.classes > 0 && (c < 0 || c > model.classes))
      throw ValueError(cat("[sampler] expected classes from 0 to ", model.classes - 1, " (", model.classes,
                           " = no class), got ", c));
}

}  // namespace

GuidedFlow::GuidedFlow(Context& ctx, const Denoiser& model, std::int64_t n, const Tensor& y, double guidance)
    : ctx_(ctx),
      model_(model),
      classes_(y),
      guidance_(guidance),
      guided_(model.classes > 0 && guidance != 1.0) {
  if (!guided_) return;
  const Tensor none = ctx.empty(Shape{n}, DType::i32);
  kernels::fill(ctx, none, model.null_class());
  classes_ = kernels::concat(ctx, {y, none}, 0);
}

Tensor GuidedFlow::operator()(const Tensor& x, double t, bool guide) const {
  const NoGrad no_grad;
  const std::int64_t n = x.size(0);
  const bool both = guided_ && guide;
  const Tensor in = both ? kernels::concat(ctx_, {x, x}, 0) : x;
  const Tensor classes = guided_ && !guide ? classes_.slice(0, 0, n) : classes_;
  const Tensor times = ctx_.empty(Shape{in.size(0)}, DType::f32);
  kernels::fill(ctx_, times, t);
  const Tensor v = kernels::cast(ctx_, model_(Var(ctx_, in), times, classes).value(), x.dtype());
  if (v.shape() != in.shape())
    throw ShapeError(cat("[sampler] the flow has the shape of the images, ", in.shape(),
                         ", but the model predicted ", v.shape()));
  if (!both) return v;
  const Tensor with = v.slice(0, 0, n);
  const Tensor without = v.slice(0, n, 2 * n);
  return kernels::add(ctx_, without,
                      kernels::affine(ctx_, kernels::sub(ctx_, with, without), guidance_, 0.0));
}

Tensor sample_batches(Context& ctx, const Denoiser& model, const SampleOptions& options, std::int64_t steps,
                      const Callbacks& callbacks, DrawBatch draw) {
  check_options(model, options);
  const std::int64_t height = options.height > 0 ? options.height : model.height;
  const std::int64_t width = options.width > 0 ? options.width : model.width;
  if (height < 1 || width < 1)
    throw ValueError(cat("[sampler] expected images of at least 1 x 1, got ", height, " x ", width),
                     "set the size in SampleOptions or in the Denoiser");
  const std::vector<std::int32_t> all_classes = sample_classes(model, options);

  Tensor images = ctx.empty(Shape{options.count, model.channels, height, width}, model.dtype);
  const std::int64_t batches = (options.count + options.batch - 1) / options.batch;
  std::int64_t steps_done = 0, images_done = 0;
  bool stopped = false;
  const auto go_on = [&] {
    ++steps_done;
    if (callbacks.on_progress) callbacks.on_progress(steps_done, batches * steps);
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
    const Tensor result = draw(kernels::from_vector(ctx, ids, count), classes, go_on);
    if (!result.defined()) break;
    kernels::copy(ctx, result, images.slice(0, begin, end));
    images_done = end;
  }
  return images.slice(0, 0, images_done);
}

}  // namespace llsa::nn

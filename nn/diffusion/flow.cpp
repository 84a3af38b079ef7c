// The draws of a training batch and the loss.
#include "nn/diffusion/flow.h"

#include <algorithm>
#include <cmath>

#include "autograd/copy.h"
#include "autograd/elementwise.h"
#include "autograd/loss.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/random.h"
#include "nn/init.h"

namespace llsa::nn {
namespace {

// One stream of random numbers per purpose.
const std::uint64_t kNoiseStream = name_stream("flow noise");
const std::uint64_t kLevelStream = name_stream("flow noise level");
const std::uint64_t kDropStream = name_stream("flow class drop");

constexpr double kLeastSigma = 0.05;

// max(sigma, 0.05) for t = 1000 sigma f32 [b], as [b,1,1,1].
Tensor bounded_sigma(Context& ctx, const Tensor& t, DType dtype) {
  const Tensor sigma = kernels::clamp(ctx, kernels::affine(ctx, t, 1e-3, 0.0), kLeastSigma, 1.0);
  return kernels::cast(ctx, sigma, dtype).reshape(Shape{t.size(0), 1, 1, 1});
}

}  // namespace

NoiseLevel noise_level_law(const std::string& name) {
  if (name == "uniform") return NoiseLevel::uniform;
  if (name == "logit_normal") return NoiseLevel::logit_normal;
  throw ValueError(cat("[flow] noise level: expected \"uniform\" or \"logit_normal\", got \"", name, '"'));
}

std::string name_of(NoiseLevel law) { return law == NoiseLevel::uniform ? "uniform" : "logit_normal"; }

FlowLoss flow_loss_kind(const std::string& name) {
  if (name == "v") return FlowLoss::v;
  if (name == "x") return FlowLoss::x;
  throw ValueError(cat("[flow] loss: expected \"v\" or \"x\", got \"", name, '"'));
}

Var flow_of_image(const Var& output, const Var& x_t, const Tensor& t) {
  if (output.shape() != x_t.shape())
    throw ShapeError(cat("[flow] a network that predicts the image has outputs of its shape, ", x_t.shape(),
                         ", got ", output.shape()));
  Context& ctx = x_t.context();
  return (x_t - cast(output, x_t.dtype())) / Var(ctx, bounded_sigma(ctx, t, x_t.dtype()));
}

double noise_rescale(std::int64_t height, std::int64_t width) {
  return std::max(1.0, std::sqrt(static_cast<double>(height) * static_cast<double>(width)) / 64.0);
}

FlowBatch make_flow_batch(Context& ctx, const Tensor& x, const Tensor& y, const Tensor& sample_ids,
                          const FlowOptions& options) {
  if (x.rank() != 4) throw ShapeError(cat("[flow] expected images [b,c,height,width], got ", x.shape()));
  const double scale = options.noise_scale > 0.0 ? options.noise_scale : noise_rescale(x.size(2), x.size(3));
  const Tensor sigma =
      kernels::noise_levels(ctx, sample_ids, options.law, options.seed, kLevelStream, options.logit_normal);
  const Tensor eps =
      kernels::random_normal_samples(ctx, x.shape(), x.dtype(), options.seed, kNoiseStream, sample_ids);
  const auto pair = kernels::flow_mix(ctx, x, eps, sigma, scale);
  FlowBatch batch{pair.x_t, pair.target, kernels::affine(ctx, sigma, 1000.0, 0.0), Tensor()};
  if (y.defined())
    batch.y = kernels::drop_classes(ctx, y, sample_ids, options.class_drop, options.null_class, options.seed,
                                    kDropStream);
  if (options.loss == FlowLoss::x) batch.weight = bounded_sigma(ctx, batch.t, x.dtype());
  return batch;
}

Var flow_loss(Context& ctx, const Denoiser& model, const FlowBatch& batch) {
  const Var v = cast(model(Var(ctx, batch.x_t), batch.t, batch.y), batch.target.dtype());
  const Var target(ctx, batch.target);
  if (!batch.weight.defined()) return mse(v, target);
  const Var weight(ctx, batch.weight);
  return mse(v * weight, target * weight);
}

Objective flow_objective(Context& ctx, const Denoiser& model, Loader& loader, FlowOptions options) {
  options.null_class = model.null_class();
  const Batch batch = loader.make_batch();
  return {[&loader, batch] { loader.next(batch); },
          [&ctx, model, batch, options] {
            return flow_loss(ctx, model, make_flow_batch(ctx, batch.x, batch.y, batch.sample_ids, options));
          }};
}

}  // namespace llsa::nn

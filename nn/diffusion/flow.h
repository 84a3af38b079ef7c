// Flow matching: noise levels, noisy images, targets, loss.
//
//   x_t = (1 - sigma) x + sigma s eps,   target = s eps - x
//   loss = mean (v - target)^2,          v = model(x_t, 1000 sigma, y)
//
// For a network whose output is the image instead of the flow (pred_x0; JiT, Li and He, arXiv 2511.13720)
//
//   v = (x_t - output) / max(sigma, 0.05)
//
// with the same loss. The bound of 0.05 is in v alone, not in the target. So v approximates the flow at every level,
// and a sampler need not know of the bound; where sigma < 0.05, the best output is x_t - 0.05 v.
//
// eps ~ N(0, 1); s = max(1, sqrt(height width) / 64) keeps the signal-to-noise ratio of large images at that
// of small ones. All draws are functions of (seed, sample id): they depend neither on threads nor on how
// samples are batched.
#pragma once

#include <cstdint>
#include <string>

#include "../../autograd/var.h"
#include "../../core/context.h"
#include "../../core/tensor.h"
#include "../../kernels/diffusion.h"
#include "../data/loader.h"
#include "../denoiser.h"
#include "../train_step.h"

namespace llsa::nn {

using kernels::LogitNormal;
using kernels::NoiseLevel;

/// "uniform", "logit_normal". Throws ValueError for another word.
NoiseLevel noise_level_law(const std::string& name);
std::string name_of(NoiseLevel law);

/// Which errors the loss squares: v = those of the flow; x = those of the image, which are max(sigma, 0.05) times those of
/// the flow.
enum class FlowLoss { v, x };
/// "v", "x". Throws ValueError for another word.
FlowLoss flow_loss_kind(const std::string& name);

/// The flow of a network whose output is the image, by the formula above: output and x_t [b,c,h,w], t f32 [b]
/// (1000 sigma) -> [b,c,h,w] in x_t's dtype. Throws ShapeError when output and x_t differ in shape.
Var flow_of_image(const Var& output, const Var& x_t, const Tensor& t);

/// max(1, sqrt(height width) / 64).
double noise_rescale(std::int64_t height, std::int64_t width);

struct FlowOptions {
  /// uniform: over {0.001, 0.002, .. 1.000}; logit_normal: 1 - floor(1000 sigmoid(N(mean, deviation^2))) / 1000.
  NoiseLevel law = NoiseLevel::uniform;
  LogitNormal logit_normal = {};
  double class_drop = 0.1;  ///< probability that a sample's class becomes null_class
  int null_class = 0;
  double noise_scale = 0.0;  ///< s; 0 = noise_rescale of the image's size
  FlowLoss loss = FlowLoss::v;
  std::uint64_t seed = 0;
};

struct FlowBatch {
  Tensor x_t;          ///< [b,c,h,w], dtype of the images
  Tensor target;       ///< same
  Tensor t;            ///< f32 [b], 1000 sigma (a cascade has its own time)
  Tensor y;            ///< i32 [b], classes with some dropped; undefined when y was
  Tensor weight = {};  ///< [b,1,1,1]: an error is multiplied by it before it is squared; undefined = 1
};

/// x [b,c,h,w] in [-1,1], y i32 [b] or undefined, sample_ids i64 [b].
FlowBatch make_flow_batch(Context& ctx, const Tensor& x, const Tensor& y, const Tensor& sample_ids,
                          const FlowOptions& options);

/// Mean squared error of the model on a batch, with the batch's weights if it has any; a scalar to call backward()
/// on. Throws ShapeError when the model's prediction has another shape than the images.
Var flow_loss(Context& ctx, const Denoiser& model, const FlowBatch& batch);

/// The flow loss of a loader's next batch, for a TrainStep. options.null_class is taken from the model. What
/// the arguments refer to must outlive it.
Objective flow_objective(Context& ctx, const Denoiser& model, Loader& loader, FlowOptions options = {});

}  // namespace llsa::nn

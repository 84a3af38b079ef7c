// Flow matching in four stages of growing resolution (PixelFlow, arXiv 2504.07963): images, targets, loss.
//
// Stage s = 0..3 works at 1/8, 1/4, 1/2 and all of the resolution. Its clean image x_s is the mean of x over squares of
// pixels, and it goes from a noisy enlarged image of half its side to a less noisy one:
//
//   x_start = start twice(halve(x_s)) + (1 - start) eps,   start = o / (2 - o), o = s / 4
//   x_end   = end x_s + (1 - end) eps,                      end = (s + 1) / 4, the same eps
//   x_t = tau x_end + (1 - tau) x_start,   target = x_end - x_start,   tau = index / 1000, index = 0..999
//   loss = mean over the samples of mean (model(x_t, T, y) - target)^2
//
// The model time T is 0, 175, 426, 719 at the start of the stages, linear in tau, and 999 at index 999 of the last. Draws
// are functions of (seed, stage, sample id).
#pragma once

#include <cstdint>
#include <vector>

#include "flow.h"

namespace llsa::nn {

constexpr int kCascadeStages = 4;

struct CascadeStage {
  double start, end;  ///< weights of the clean image
  double time;        ///< T at index 0
  double time_step;   ///< and what each index adds
};
/// Throws ValueError unless the stage is 0..3.
CascadeStage cascade_stage(int stage);

/// Means of 2x2 squares: x [b,c,h,w] -> [b,c,h/2,w/2]. Throws ShapeError for an odd side.
Tensor halve(Context& ctx, const Tensor& x);
/// Every pixel four times: x [b,c,h,w] -> [b,c,2h,2w].
Tensor twice(Context& ctx, const Tensor& x);

/// A stage's images from given noise: x [b,c,height,width] in [-1,1] at full resolution, eps of the stage's size, index
/// i32 [b]. `t` of the result is T; y is left undefined. Throws ShapeError for another eps and for sides that cannot be
/// halved as often as the stage needs.
FlowBatch make_stage_batch(Context& ctx, int stage, const Tensor& x, const Tensor& eps, const Tensor& index);

struct CascadeOptions {
  double class_drop = 0.1;  ///< probability that a sample's class becomes null_class
  int null_class = 0;
  std::uint64_t seed = 0;
};

/// The first quarter of the samples goes to stage 0, and so on: one batch for each stage. x [b,c,height,width] in [-1,1],
/// y i32 [b] or undefined, sample_ids i64 [b]. Throws ShapeError unless 4 divides b.
std::vector<FlowBatch> make_cascade_batch(Context& ctx, const Tensor& x, const Tensor& y,
                                          const Tensor& sample_ids, const CascadeOptions& options);

/// Every sample in every stage, with the index that it has in make_cascade_batch and noise of its own in each: the loss of
/// these four batches is the mean over the samples and the stages. Any b.
std::vector<FlowBatch> make_full_cascade_batch(Context& ctx, const Tensor& x, const Tensor& y,
                                               const Tensor& sample_ids, const CascadeOptions& options);

/// The loss of a model that is called once per stage; a scalar to call backward() on. Throws ShapeError when a
/// prediction has another shape than the images.
Var cascade_loss(Context& ctx, const Denoiser& model, const std::vector<FlowBatch>& stages);

/// The cascade loss of a loader's next batch, for a TrainStep. options.null_class is taken from the model. What the
/// arguments refer to must outlive it.
Objective cascade_objective(Context& ctx, const Denoiser& model, Loader& loader, CascadeOptions options = {});

}  // namespace llsa::nn

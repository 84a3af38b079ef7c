// The order of an update: norm, clip factor, step number, then the runs of the own slices one by one.
#include "nn/optim.h"

#include <algorithm>
#include <utility>

#include "kernels/copy.h"
#include "kernels/elementwise.h"

namespace llsa::nn {
namespace {

Tensor zeros_like_slice(const Parameters& params) {
  const Slices& slices = params.slices();
  return params.context().zeros(Shape{slices.end() - slices.begin()}, params.flat().dtype());
}

}  // namespace

Optimizer::Optimizer(Parameters& params, double clip, ParameterFilter decays)
    : params_(params),
      lr_(params.context().zeros(Shape{1}, DType::f64)),
      step_(params.context().zeros(Shape{1}, DType::i64)),
      clip_{params.context().zeros(Shape{1}, DType::f64), params.context().zeros(Shape{1}, DType::f64),
            params.context().zeros(Shape{1}, DType::i32)},
      max_norm_(clip),
      decays_(std::move(decays)) {
  if (!(clip >= 0.0)) throw ValueError(cat("[optimizer] expected a clip norm of at least 0, got ", clip));
  params.lay_out();
}

void Optimizer::prepare(double learning_rate) {
  kernels::fill(params_.context(), lr_, learning_rate);
  ++calls_;
}

void Optimizer::update(Ema* ema, const Tensor& gradient) {
  Context& ctx = params_.context();
  const Slices& slices = params_.slices();
  const Tensor own = gradient.defined() ? gradient : slices.of(params_.flat_grad());
  const std::vector<Run> all = runs();
  measure(all, own);
  const Tensor decay = ema ? ema->next_decay(clip_.skip) : Tensor();
  for (const Run& run : all) {
    if (!run.frozen)
      update_run(run, own, ema, decay);
    else if (ema)
      kernels::ema_update(ctx, run.of(ema->flat()), run.of(weights()), decay, clip_.skip);
  }
  if (ema) ema->update_others(clip_.skip);
  kernels::fill(ctx, gradient.defined() ? gradient : params_.flat_grad(), 0.0);
  if (!slices.shared()) return;
  slices.collect(ctx, params_.flat());
  params_.refresh();
}

std::int64_t Optimizer::count_skipped() const {
  return calls_ - static_cast<std::int64_t>(params_.context().item(step_));
}

void Optimizer::restore(const std::vector<Tensor>& saved, std::int64_t updates) {
  const auto own = buffers();
  if (updates < 0) throw ValueError(cat("[optimizer] expected at least 0 updates, got ", updates));
  if (saved.size() != own.size())
    throw ShapeError(cat("[optimizer] expected ", own.size(), " saved buffers, got ", saved.size()));
  const Shape& flat = params_.flat().shape();
  for (std::size_t i = 0; i < own.size(); ++i)
    if (saved[i].shape() != flat)
      throw ShapeError(
          cat("[optimizer] expected ", own[i].first, " of shape ", flat, ", got ", saved[i].shape()));
  for (std::size_t i = 0; i < own.size(); ++i)
    kernels::copy(params_.context(), params_.slices().of(saved[i]), own[i].second);
  kernels::fill(params_.context(), step_, static_cast<double>(updates));
  kernels::fill(params_.context(), clip_.norm, 0.0);
  calls_ = updates;
}

/// A parameter's elements reach up to the next parameter, so that padding does not part a run. In the end the runs are cut
/// to the own slice, and count from its beginning.
std::vector<Optimizer::Run> Optimizer::runs() const {
  std::vector<Run> list;
  for (const Parameter& p : params_.all()) {
    const bool decays = !decays_ || decays_(p);
    if (!list.empty()) list.back().end = p.offset;
    if (list.empty() || list.back().frozen != p.frozen || list.back().decays != decays)
      list.push_back({p.offset, p.offset, p.frozen, decays});
  }
  if (!list.empty()) list.back().end = params_.flat_size();
  const Slices& slices = params_.slices();
  for (Run& run : list) {
    run.begin = std::max(run.begin, slices.begin()) - slices.begin();
    run.end = std::min(run.end, slices.end()) - slices.begin();
  }
  std::erase_if(list, [](const Run& run) { return run.begin >= run.end; });
  return list;
}

/// The norm of the gradient of all parameters that are trained, and what follows from it.
void Optimizer::measure(const std::vector<Run>& runs, const Tensor& gradient) {
  Context& ctx = params_.context();
  for (const Run& run : runs)  // a leaf over several parameters collects gradients of frozen ones, too
    if (run.frozen) kernels::fill(ctx, run.of(gradient), 0.0);
  // 0, or NaN for ever after a norm that was not finite.
  const Tensor before = kernels::affine(ctx, clip_.norm, 0.0, 0.0);
  const Tensor squares = kernels::add(ctx, params_.slices().sum_squares(ctx, gradient), before);
  kernels::clip_gradient(ctx, squares, max_norm_, clip_);
  kernels::advance_step(ctx, step_, clip_.skip);
}

AdamW::AdamW(Parameters& params, const AdamWOptions& options)
    : Optimizer(params, options.clip, options.decays),
      options_{options.beta1, options.beta2, options.eps, options.weight_decay},
      m_(zeros_like_slice(params)),
      v_(zeros_like_slice(params)) {}

void AdamW::update_run(const Run& run, const Tensor& gradient, Ema* ema, const Tensor& decay) {
  Context& ctx = params_.context();
  const kernels::AdamWBuffers buffers{run.of(weights()), run.of(gradient), run.of(m_), run.of(v_),
                                      run.of(low())};
  const kernels::AdamWScalars scalars{lr_, clip_.factor, step_, clip_.skip};
  kernels::AdamWOptions options = options_;
  if (!run.decays) options.weight_decay = 0.0;
  if (ema)
    kernels::adamw_ema_step(ctx, buffers, scalars, options, run.of(ema->flat()), decay);
  else
    kernels::adamw_step(ctx, buffers, scalars, options);
}

Sgd::Sgd(Parameters& params, const SgdOptions& options)
    : Optimizer(params, options.clip, options.decays), options_{options.momentum, options.weight_decay} {
  if (options.momentum != 0.0) v_ = zeros_like_slice(params);
}

void Sgd::update_run(const Run& run, const Tensor& gradient, Ema* ema, const Tensor& decay) {
  Context& ctx = params_.context();
  kernels::SgdOptions options = options_;
  if (!run.decays) options.weight_decay = 0.0;
  kernels::sgd_step(ctx, {run.of(weights()), run.of(gradient), run.of(v_), run.of(low())},
                    {lr_, clip_.factor, clip_.skip}, options);
  if (ema) kernels::ema_update(ctx, run.of(ema->flat()), run.of(weights()), decay, clip_.skip);
}

}  // namespace llsa::nn

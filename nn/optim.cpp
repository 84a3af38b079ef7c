// The order of an update: norm, clip factor, step number, then the runs of the flat buffers one by one.
#include "nn/optim.h"

#include <utility>

#include "kernels/copy.h"
#include "kernels/elementwise.h"

namespace llsa::nn {

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

void Optimizer::update(Ema* ema) {
  const std::vector<Run> all = runs();
  measure(all);
  const Tensor decay = ema ? ema->next_decay(clip_.skip) : Tensor();
  for (const Run& run : all) {
    if (!run.frozen)
      update_run(run, ema, decay);
    else if (ema)
      kernels::ema_update(params_.context(), run.of(ema->flat()), run.of(params_.flat()), decay, clip_.skip);
  }
  if (ema) ema->update_others(clip_.skip);
  params_.zero_grad();
}

std::int64_t Optimizer::count_skipped() const {
  return calls_ - static_cast<std::int64_t>(params_.context().item(step_));
}

void Optimizer::restore(const std::vector<Tensor>& saved, std::int64_t updates) {
  const auto own = buffers();
  if (updates < 0) throw ValueError(cat("[optimizer] expected at least 0 updates, got ", updates));
  if (saved.size() != own.size())
    throw ShapeError(cat("[optimizer] expected ", own.size(), " saved buffers, got ", saved.size()));
  for (std::size_t i = 0; i < own.size(); ++i)
    if (saved[i].shape() != own[i].second.shape())
      throw ShapeError(cat("[optimizer] expected ", own[i].first, " of shape ", own[i].second.shape(),
                           ", got ", saved[i].shape()));
  for (std::size_t i = 0; i < own.size(); ++i) kernels::copy(params_.context(), saved[i], own[i].second);
  kernels::fill(params_.context(), step_, static_cast<double>(updates));
  kernels::fill(params_.context(), clip_.norm, 0.0);
  calls_ = updates;
}

/// A parameter's elements reach up to the next parameter, so that padding does not part a run.
std::vector<Optimizer::Run> Optimizer::runs() const {
  std::vector<Run> list;
  for (const Parameter& p : params_.all()) {
    const bool decays = !decays_ || decays_(p);
    if (!list.empty()) list.back().end = p.offset;
    if (list.empty() || list.back().frozen != p.frozen || list.back().decays != decays)
      list.push_back({p.offset, p.offset, p.frozen, decays});
  }
  if (!list.empty()) list.back().end = params_.flat_size();
  return list;
}

/// The norm of the gradient of all parameters that are trained, and what follows from it.
void Optimizer::measure(const std::vector<Run>& runs) {
  Context& ctx = params_.context();
  // 0, or NaN for ever after a norm that was not finite.
  Tensor squares = kernels::affine(ctx, clip_.norm, 0.0, 0.0);
  for (std::size_t i = 0; i < runs.size();) {
    Run span = runs[i++];
    if (span.frozen) continue;
    for (; i < runs.size() && !runs[i].frozen; ++i) span.end = runs[i].end;
    squares = kernels::add(ctx, kernels::sum_squares(ctx, span.of(params_.flat_grad())), squares);
  }
  kernels::clip_gradient(ctx, squares, max_norm_, clip_);
  kernels::advance_step(ctx, step_, clip_.skip);
}

AdamW::AdamW(Parameters& params, const AdamWOptions& options)
    : Optimizer(params, options.clip, options.decays),
      options_{options.beta1, options.beta2, options.eps, options.weight_decay},
      m_(params.zeros_like_flat()),
      v_(params.zeros_like_flat()) {}

void AdamW::update_run(const Run& run, Ema* ema, const Tensor& decay) {
  Context& ctx = params_.context();
  const kernels::AdamWBuffers buffers{run.of(params_.flat()), run.of(params_.flat_grad()), run.of(m_),
                                      run.of(v_), run.of(params_.low())};
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
  if (options.momentum != 0.0) v_ = params.zeros_like_flat();
}

void Sgd::update_run(const Run& run, Ema* ema, const Tensor& decay) {
  Context& ctx = params_.context();
  kernels::SgdOptions options = options_;
  if (!run.decays) options.weight_decay = 0.0;
  kernels::sgd_step(ctx,
                    {run.of(params_.flat()), run.of(params_.flat_grad()), run.of(v_), run.of(params_.low())},
                    {lr_, clip_.factor, clip_.skip}, options);
  if (ema) kernels::ema_update(ctx, run.of(ema->flat()), run.of(params_.flat()), decay, clip_.skip);
}

}  // namespace llsa::nn

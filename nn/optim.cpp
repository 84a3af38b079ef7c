// The order of an update: norm, clip factor, step number, then one pass over the flat buffers.
#include "nn/optim.h"

#include "kernels/copy.h"
#include "kernels/elementwise.h"

namespace llsa::nn {

AdamW::AdamW(Parameters& store, const AdamWOptions& options)
    : store_(store),
      options_(options),
      m_(store.zeros_like_flat()),
      v_(store.zeros_like_flat()),
      lr_(store.context().zeros(Shape{1}, DType::f64)),
      step_(store.context().zeros(Shape{1}, DType::i64)),
      clip_{store.context().zeros(Shape{1}, DType::f64), store.context().zeros(Shape{1}, DType::f64),
            store.context().zeros(Shape{1}, DType::i32)} {
  if (!(options.clip >= 0.0))
    throw ValueError(cat("[adamw] expected a clip norm of at least 0, got ", options.clip));
}

void AdamW::prepare(double learning_rate) {
  kernels::fill(store_.context(), lr_, learning_rate);
  ++calls_;
}

void AdamW::update(Ema* ema) {
  Context& ctx = store_.context();
  const Tensor& gradient = store_.flat_grad();
  // 0, or NaN for ever after a norm that was not finite.
  const Tensor stuck = kernels::affine(ctx, clip_.norm, 0.0, 0.0);
  const Tensor squares = kernels::add(ctx, kernels::sum_squares(ctx, gradient), stuck);
  kernels::clip_gradient(ctx, squares, options_.clip, clip_);
  kernels::advance_step(ctx, step_, clip_.skip);
  const kernels::AdamWBuffers buffers{store_.flat(), gradient, m_, v_, store_.low()};
  const kernels::AdamWScalars scalars{lr_, clip_.factor, step_, clip_.skip};
  if (ema)
    kernels::adamw_ema_step(ctx, buffers, scalars, options_.adam, ema->flat(),
                            kernels::ema_decay(ctx, step_, ema->options()));
  else
    kernels::adamw_step(ctx, buffers, scalars, options_.adam);
}

std::int64_t AdamW::count_skipped() const {
  return calls_ - static_cast<std::int64_t>(store_.context().item(step_));
}

void AdamW::restore(const Tensor& first_moment, const Tensor& second_moment, std::int64_t updates) {
  if (first_moment.shape() != m_.shape() || second_moment.shape() != v_.shape())
    throw ShapeError(cat("[adamw] expected moments of shape ", m_.shape(), ", got ", first_moment.shape(),
                         " and ", second_moment.shape()));
  if (updates < 0) throw ValueError(cat("[adamw] expected at least 0 updates, got ", updates));
  Context& ctx = store_.context();
  kernels::copy(ctx, first_moment, m_);
  kernels::copy(ctx, second_moment, v_);
  kernels::fill(ctx, step_, static_cast<double>(updates));
  kernels::fill(ctx, clip_.norm, 0.0);
  calls_ = updates;
}

}  // namespace llsa::nn

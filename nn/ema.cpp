// The average as a pass of its own.
#include "nn/ema.h"

#include "kernels/copy.h"

namespace llsa::nn {

Ema::Ema(const Parameters& params, const kernels::EmaOptions& options)
    : params_(params),
      options_(options),
      flat_(kernels::clone(params.context(), params.flat())),
      updates_(params.context().zeros(Shape{1}, DType::i64)) {
  if (!(options.power >= 0.0) || !(options.max_decay >= 0.0 && options.max_decay <= 1.0))
    throw ValueError(cat("[ema] expected a power of at least 0 and a largest decay from 0 to 1, got ",
                         options.power, " and ", options.max_decay));
}

void Ema::update() {
  kernels::ema_update(params_.context(), flat_, params_.flat(), next_decay(Tensor()), Tensor());
}

void Ema::restore(const Tensor& flat, std::int64_t updates) {
  if (flat.shape() != flat_.shape())
    throw ShapeError(cat("[ema] expected an average of shape ", flat_.shape(), ", got ", flat.shape()));
  if (updates < 0) throw ValueError(cat("[ema] expected at least 0 updates, got ", updates));
  kernels::copy(params_.context(), flat, flat_);
  kernels::fill(params_.context(), updates_, static_cast<double>(updates));
}

Tensor Ema::next_decay(const Tensor& skip) {
  kernels::advance_step(params_.context(), updates_, skip);
  return kernels::ema_decay(params_.context(), updates_, options_);
}

}  // namespace llsa::nn

// The average as its own pass.
#include "nn/ema.h"

#include "kernels/copy.h"

namespace llsa::nn {

Ema::Ema(const Parameters& store, const kernels::EmaOptions& options)
    : store_(store), options_(options), flat_(kernels::clone(store.context(), store.flat())) {
  if (!(options.power >= 0.0) || !(options.max_decay >= 0.0 && options.max_decay <= 1.0))
    throw ValueError(cat("[ema] expected a power of at least 0 and a largest decay from 0 to 1, got ",
                         options.power, " and ", options.max_decay));
}

void Ema::update(const Tensor& n) {
  Context& ctx = store_.context();
  kernels::ema_update(ctx, flat_, store_.flat(), kernels::ema_decay(ctx, n, options_), Tensor());
}

void Ema::restore(const Tensor& flat) {
  if (flat.shape() != flat_.shape())
    throw ShapeError(cat("[ema] expected an average of shape ", flat_.shape(), ", got ", flat.shape()));
  kernels::copy(store_.context(), flat, flat_);
}

}  // namespace llsa::nn

// The average as a pass of its own.
#include "nn/ema.h"

#include <set>

#include "kernels/copy.h"
#include "nn/number_list.h"

namespace llsa::nn {

Ema::Ema(const Parameters& params, const kernels::EmaOptions& options)
    : params_(params),
      options_(options),
      flat_(kernels::clone(params.context(), weights())),
      updates_(params.context().zeros(Shape{1}, DType::i64)) {
  if (!(options.power >= 0.0) || !(options.max_decay >= 0.0 && options.max_decay <= 1.0))
    throw ValueError(cat("[ema] expected a power of at least 0 and a largest decay from 0 to 1, got ",
                         options.power, " and ", options.max_decay));
}

void Ema::keep_beside(const EmaOptions& options) {
  others_.push_back(std::make_unique<Ema>(params_, options));
}

void Ema::update() {
  kernels::ema_update(params_.context(), flat_, weights(), next_decay(Tensor()), Tensor());
  update_others(Tensor());
}

void Ema::update_others(const Tensor& skip) {
  for (const auto& other : others_)
    kernels::ema_update(params_.context(), other->flat_, weights(), other->next_decay(skip), skip);
}

void Ema::restore(const Tensor& flat, std::int64_t updates) {
  const Shape& expected = params_.flat().shape();
  if (flat.shape() != expected)
    throw ShapeError(cat("[ema] expected an average of shape ", expected, ", got ", flat.shape()));
  if (updates < 0) throw ValueError(cat("[ema] expected at least 0 updates, got ", updates));
  kernels::copy(params_.context(), params_.slices().of(flat), flat_);
  kernels::fill(params_.context(), updates_, static_cast<double>(updates));
}

Tensor Ema::next_decay(const Tensor& skip) {
  kernels::advance_step(params_.context(), updates_, skip);
  return kernels::ema_decay(params_.context(), updates_, options_);
}

std::vector<double> ema_decays(const std::string& text) {
  if (text.empty()) return {};
  const std::vector<double> decays = number_list(text);
  const std::set<double> sorted(decays.begin(), decays.end());
  if (sorted.size() < decays.size() || *sorted.begin() < 0.0 || *sorted.rbegin() > 1.0)
    throw ValueError(cat("[ema] expected different decays from 0 to 1, got '", text, "'"));
  return decays;
}

}  // namespace llsa::nn

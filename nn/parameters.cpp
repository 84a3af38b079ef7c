// Layout of the flat buffers: parameters in declaration order, each at a multiple of 64 bytes unless it is
// adjacent to its predecessor. Padding holds zeros in every buffer and stays so: its gradient is zero, and
// AdamW maps zero to zero.
#include "nn/parameters.h"

#include "core/closest.h"
#include "kernels/copy.h"

namespace llsa::nn {
namespace {

constexpr std::int64_t kAlign = 16;  // elements of f32 in 64 bytes

Tensor view_at(const Tensor& flat, const Shape& shape, std::int64_t offset) {
  return Tensor::over(flat.storage(), shape, flat.dtype(), flat.offset() + offset);
}

void check_layout(const char* where, const Tensor& flat, const Tensor& like) {
  if (flat.shape() != like.shape())
    throw ShapeError(
        cat("[", where, "] expected a flat buffer of ", like.numel(), " elements, got ", flat.shape()));
}

}  // namespace

ParameterStore::ParameterStore(Context& ctx, const std::vector<ParameterSpec>& specs, std::uint64_t seed,
                               DType dtype)
    : ctx_(ctx), dtype_(dtype) {
  if (!is_floating(dtype))
    throw DTypeError(cat("[parameters] expected f32, bf16 or f64, got ", llsa::name_of(dtype)));
  std::int64_t end = 0;
  for (const ParameterSpec& spec : specs) {
    if (spec.name.empty()) throw ValueError("[parameters] a parameter has no name");
    if (!index_.emplace(spec.name, parameters_.size()).second)
      throw ValueError(cat("[parameters] \"", spec.name, "\" is declared twice"));
    if (!spec.adjacent) end = (end + kAlign - 1) / kAlign * kAlign;
    parameters_.push_back({spec.name, spec.shape, end, {}});
    end += spec.shape.numel();
    parameter_count_ += spec.shape.numel();
  }
  end = (end + kAlign - 1) / kAlign * kAlign;

  const DType master = dtype == DType::f64 ? DType::f64 : DType::f32;
  flat_ = ctx.zeros(Shape{end}, master);
  flat_grad_ = ctx.zeros(Shape{end}, master);
  compute_ = dtype == master ? flat_ : ctx.zeros(Shape{end}, dtype);
  for (std::size_t i = 0; i < specs.size(); ++i) {
    Parameter& p = parameters_[i];
    initialize(ctx, view(flat_, p), specs[i].init, seed, p.name);
    p.var = Var(ctx, view(compute_, p), true);
    p.var.bind_grad(view(flat_grad_, p));
  }
  refresh();
}

const Parameter& ParameterStore::find(const std::string& name) const {
  if (const auto at = index_.find(name); at != index_.end()) return parameters_[at->second];
  std::vector<std::string> names;
  for (const Parameter& p : parameters_) names.push_back(p.name);
  const std::string near = closest(name, names);
  throw ValueError(cat("[parameters] there is no \"", name, '"'),
                   near.empty() ? "" : cat("did you mean \"", near, "\"?"));
}

Var ParameterStore::joined(const std::vector<std::string>& names, const Shape& shape) const {
  if (names.empty()) throw ValueError("[parameters] nothing to join");
  const Parameter& first = find(names.front());
  std::int64_t end = first.offset;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const Parameter& next = find(names[i]);
    if (next.offset != end)
      throw ValueError(
          cat("[parameters] \"", next.name, "\" does not lie right behind \"", names[i - 1], '"'),
          "declare it as adjacent");
    end += next.shape.numel();
  }
  if (end - first.offset != shape.numel())
    throw ShapeError(cat("[parameters] ", names.size(), " parameters from \"", first.name, "\" on have ",
                         end - first.offset, " elements, which do not fit ", shape));
  Var var(ctx_, view_at(compute_, shape, first.offset), true);
  var.bind_grad(view_at(flat_grad_, shape, first.offset));
  return var;
}

Tensor ParameterStore::view(const Tensor& flat, const Parameter& parameter) const {
  check_layout("parameters", flat, flat_);
  return view_at(flat, parameter.shape, parameter.offset);
}

Tensor ParameterStore::zeros_like_flat() const { return ctx_.zeros(flat_.shape(), flat_.dtype()); }

void ParameterStore::zero_grad() { kernels::fill(ctx_, flat_grad_, 0.0); }

void ParameterStore::refresh() {
  if (compute_.dtype() != flat_.dtype()) kernels::copy(ctx_, flat_, compute_);
}

void ParameterStore::load(const Tensor& flat) {
  check_layout("parameters", flat, flat_);
  kernels::copy(ctx_, flat, flat_);
  refresh();
}

ScopedWeights::ScopedWeights(ParameterStore& store, const Tensor& flat)
    : store_(store), own_(kernels::clone(store.context(), store.flat())) {
  store_.load(flat);
}

ScopedWeights::~ScopedWeights() {
  if (!own_.defined()) return;
  try {
    restore();
  } catch (const Error&) {  // only after another one, which broke the device
  }
}

void ScopedWeights::restore() {
  store_.load(own_);
  own_ = {};
}

}  // namespace llsa::nn

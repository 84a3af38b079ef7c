// The layout of the flat buffers: parameters in the order of declaration, each at a multiple of 64 bytes
// unless it was joined to its predecessor. The padding holds zeros in every buffer and keeps them: its
// gradient is zero, and an optimiser leaves a zero with a zero gradient as it is.
#include "nn/parameters.h"

#include <algorithm>
#include <ostream>

#include "core/closest.h"
#include "kernels/copy.h"

namespace llsa::nn {
namespace {

constexpr std::int64_t kAlign = 16;  // elements of f32 in 64 bytes

std::int64_t aligned(std::int64_t offset) { return (offset + kAlign - 1) / kAlign * kAlign; }

Tensor view_at(const Tensor& flat, const Shape& shape, std::int64_t offset) {
  return Tensor::over(flat.storage(), shape, flat.dtype(), flat.offset() + offset);
}

void check_layout(const Tensor& flat, const Tensor& like) {
  if (flat.shape() != like.shape())
    throw ShapeError(
        cat("[parameters] expected a flat buffer of ", like.numel(), " elements, got ", flat.shape()));
}

/// Whether a dotted name is `top`, or lies below it.
bool is_below(const std::string& name, const std::string& top) {
  if (top.empty()) return true;
  return name.compare(0, top.size(), top) == 0 && (name.size() == top.size() || name[top.size()] == '.');
}

}  // namespace

Parameters::Parameters(Context& ctx, std::uint64_t seed, DType dtype)
    : ctx_(ctx), seed_(seed), dtype_(dtype) {
  if (!is_floating(dtype))
    throw DTypeError(cat("[parameters] expected f32, bf16 or f64, got ", llsa::name_of(dtype)));
}

Var Parameters::declare(const std::string& name, const Shape& shape, const Init& init) {
  declare_joined({{name, shape, init}}, shape);
  return parameters_.back().var;
}

Var Parameters::declare_joined(const std::vector<ParameterSpec>& parts, const Shape& shape) {
  if (parts.empty()) throw ValueError("[parameters] expected at least one parameter to declare, got none");
  std::int64_t size = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::string& name = parts[i].name;
    if (name.empty()) throw ValueError("[parameters] a parameter has no name");
    bool taken = contains(name);
    for (std::size_t j = 0; j < i; ++j) taken = taken || parts[j].name == name;
    if (taken) throw ValueError(cat("[parameters] \"", name, "\" is declared twice"));
    size += parts[i].shape.numel();
  }
  const std::string& first = parts.front().name;
  if (flat_.values.defined())
    throw ValueError(cat("[parameters] \"", first, "\" is declared after the parameters were laid out"),
                     "make all layers before the first optimiser, average, save or load");
  if (size != shape.numel())
    throw ShapeError(cat("[parameters] ", parts.size(), " parameters from \"", first, "\" on have ", size,
                         " elements, which do not fit ", shape));

  const Piece piece{aligned(end_), make_buffers(size)};
  std::int64_t inside = 0;
  for (const ParameterSpec& part : parts) {
    initialize(ctx_, view_at(piece.buffers.values, part.shape, inside), part.init, seed_, part.name);
    inside += part.shape.numel();
  }
  round_values(piece.buffers);

  end_ = piece.offset;
  for (const ParameterSpec& part : parts) {
    index_.emplace(part.name, parameters_.size());
    parameters_.push_back(
        {part.name, part.shape, end_, make_leaf(piece.buffers, part.shape, end_ - piece.offset)});
    end_ += part.shape.numel();
  }
  parameter_count_ += size;
  pieces_.push_back(piece);
  const bool is_one = parts.size() == 1 && parts.front().shape == shape;
  if (is_one) return parameters_.back().var;
  joined_.push_back({make_leaf(piece.buffers, shape, 0), piece.offset});
  return joined_.back().var;
}

const Parameter& Parameters::find(const std::string& name) const {
  if (const auto at = index_.find(name); at != index_.end()) return parameters_[at->second];
  std::vector<std::string> names;
  for (const Parameter& p : parameters_) names.push_back(p.name);
  throw ValueError(cat("[parameters] there is no \"", name, '"'), did_you_mean(name, names));
}

void Parameters::lay_out() const {
  if (flat_.values.defined()) return;
  Buffers flat = make_buffers(flat_size());
  for (const Piece& piece : pieces_) {
    const Shape shape = piece.buffers.values.shape();
    kernels::copy(ctx_, piece.buffers.values, view_at(flat.values, shape, piece.offset));
    kernels::copy(ctx_, piece.buffers.gradient, view_at(flat.gradient, shape, piece.offset));
  }
  round_values(flat);
  flat_ = std::move(flat);
  for (const Parameter& p : parameters_) move_leaf(p.var, p.offset);
  for (const Joined& j : joined_) move_leaf(j.var, j.offset);
  pieces_.clear();
}

std::int64_t Parameters::flat_size() const { return aligned(end_); }

Tensor Parameters::low() const { return dtype_ == DType::bf16 ? flat_buffers().compute : Tensor(); }

Tensor Parameters::view(const Tensor& flat, const Parameter& parameter) const {
  check_layout(flat, this->flat());
  return view_at(flat, parameter.shape, parameter.offset);
}

Tensor Parameters::zeros_like_flat() const { return ctx_.zeros(flat().shape(), flat().dtype()); }

void Parameters::share(Communicator& ranks) {
  lay_out();
  slices_.emplace(ranks, flat_size());
}

const Slices& Parameters::slices() const {
  lay_out();
  if (!slices_) slices_.emplace(one_process(), flat_size());
  return *slices_;
}

void Parameters::set_frozen(const std::string& name, bool frozen) {
  lay_out();
  bool found = false;
  for (Parameter& p : parameters_) {
    if (!is_below(p.name, name)) continue;
    found = true;
    p.frozen = frozen;
    p.var.set_requires_grad(!frozen);
    move_leaf(p.var, p.offset);
    if (frozen) kernels::fill(ctx_, view(flat_.gradient, p), 0.0);
  }
  if (!found) {
    std::vector<std::string> names;
    for (const Parameter& p : parameters_)
      for (std::size_t at = p.name.size(); at != std::string::npos && at > 0;
           at = p.name.find_last_of('.', at - 1))
        names.push_back(p.name.substr(0, at));
    throw ValueError(cat("[parameters] there is no parameter below \"", name, '"'),
                     did_you_mean(name, names));
  }
  // A joined leaf requires a gradient as long as one of its parts does.
  for (Joined& j : joined_) {
    const std::int64_t end = j.offset + j.var.shape().numel();
    bool trained = false;
    for (const Parameter& p : parameters_)
      trained = trained || (!p.frozen && p.offset >= j.offset && p.offset < end);
    j.var.set_requires_grad(trained);
    move_leaf(j.var, j.offset);
  }
}

void Parameters::zero_grad() { kernels::fill(ctx_, flat_grad(), 0.0); }

void Parameters::refresh() { round_values(flat_buffers()); }

void Parameters::load(const Tensor& flat) {
  check_layout(flat, this->flat());
  kernels::copy(ctx_, flat, this->flat());
  refresh();
}

Parameters::Buffers Parameters::make_buffers(std::int64_t size) const {
  const DType master = dtype_ == DType::f64 ? DType::f64 : DType::f32;
  Buffers made;
  made.values = ctx_.zeros(Shape{size}, master);
  made.gradient = ctx_.zeros(Shape{size}, master);
  made.compute = dtype_ == master ? made.values : ctx_.zeros(Shape{size}, dtype_);
  return made;
}

void Parameters::round_values(const Buffers& buffers) const {
  if (buffers.compute.dtype() != buffers.values.dtype()) kernels::copy(ctx_, buffers.values, buffers.compute);
}

Var Parameters::make_leaf(const Buffers& buffers, const Shape& shape, std::int64_t offset) const {
  Var leaf(ctx_, view_at(buffers.compute, shape, offset), true);
  leaf.bind_grad(view_at(buffers.gradient, shape, offset));
  return leaf;
}

/// A graph that was recorded before keeps the old values, which are the same, and finds the new gradient.
void Parameters::move_leaf(Var leaf, std::int64_t offset) const {
  leaf.set_value(view_at(flat_.compute, leaf.shape(), offset));
  if (leaf.requires_grad()) leaf.bind_grad(view_at(flat_.gradient, leaf.shape(), offset));
}

std::ostream& operator<<(std::ostream& out, const Parameters& params) {
  const std::string total = "total";
  std::size_t names = total.size(), shapes = 0;
  const std::size_t counts = cat(params.parameter_count()).size();
  for (const Parameter& p : params.all()) {
    names = std::max(names, p.name.size());
    shapes = std::max(shapes, p.shape.str().size());
  }
  const auto row = [&](const std::string& name, const std::string& shape, std::int64_t count) {
    const std::string digits = cat(count);
    return name + std::string(names - name.size() + 2, ' ') + shape +
           std::string(shapes - shape.size() + 2 + counts - digits.size(), ' ') + digits;
  };
  for (const Parameter& p : params.all())
    out << row(p.name, p.shape.str(), p.shape.numel()) << (p.frozen ? "  frozen\n" : "\n");
  return out << row(total, "", params.parameter_count()) << '\n';
}

ScopedWeights::ScopedWeights(Parameters& parameters, const Tensor& flat)
    : parameters_(parameters), own_(kernels::clone(parameters.context(), parameters.flat())) {
  parameters_.load(flat);
}

ScopedWeights::~ScopedWeights() {
  if (!own_.defined()) return;
  try {
    restore();
  } catch (const Error&) {  // only after another one, which broke the device
  }
}

void ScopedWeights::restore() {
  parameters_.load(own_);
  own_ = {};
}

}  // namespace llsa::nn

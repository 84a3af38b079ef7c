// Var: leaves and handles. The recording and the walk are in tape.cpp.

#include "autograd/var.h"

#include <ostream>

#include "autograd/node.h"
#include "kernels/copy.h"

namespace llsa {

Var::Var(Context& context, Tensor value, bool requires_grad) : state_(std::make_shared<State>()) {
  if (!value.defined()) throw ValueError("[var] expected a tensor, got an undefined one");
  state_->context = &context;
  state_->value = std::move(value);
  set_requires_grad(requires_grad);
}

void Var::set_requires_grad(bool on) {
  if (!is_leaf()) throw ValueError("[set_requires_grad] expected a leaf, got the output of an op");
  if (on == requires_grad()) return;
  if (!on) {
    state_->node = nullptr;
    return;
  }
  if (!is_floating(dtype()))
    throw DTypeError(cat("[var] gradients need f32, bf16 or f64, got ", name_of(dtype())));
  state_->node = std::make_shared<Node>();
  state_->node->context = state_->context;
  state_->node->saved.push_back(value());
  state_->node->gradients.resize(1);
}

Var Var::made_by(Context& context, Tensor value, std::shared_ptr<Node> node, int slot) {
  Var var;
  var.state_ = std::make_shared<State>();
  var.state_->value = std::move(value);
  var.state_->context = &context;
  var.state_->node = std::move(node);
  var.state_->slot = slot;
  return var;
}

bool Var::is_leaf() const { return state().node == nullptr || state().node->is_leaf(); }

const Tensor& Var::grad() const {
  static const Tensor none;
  const auto& node = state().node;
  return node && node->is_leaf() ? node->gradients[0] : none;
}

void Var::bind_grad(Tensor buffer) {
  if (!requires_grad() || !is_leaf())
    throw ValueError("[bind_grad] expected a leaf that requires a gradient, got another variable",
                     "make the Var with requires_grad = true");
  if (buffer.shape() != shape())
    throw ShapeError(cat("[bind_grad] expected a buffer of shape ", shape(), ", got ", buffer.shape()));
  if (buffer.dtype() != dtype() && buffer.dtype() != DType::f32)
    throw DTypeError(
        cat("[bind_grad] expected a buffer of ", name_of(dtype()), " or f32, got ", name_of(buffer.dtype())));
  if (!buffer.is_contiguous())
    throw ShapeError("[bind_grad] expected a contiguous buffer, got a strided view");
  Node& leaf = *state_->node;
  leaf.gradients[0] = std::move(buffer);
  leaf.bound = true;
}

void Var::zero_grad() {
  if (!requires_grad() || !is_leaf()) return;
  Node& leaf = *state_->node;
  if (leaf.bound)
    kernels::fill(context(), leaf.gradients[0], 0.0);
  else
    leaf.gradients[0] = Tensor();
}

void Var::set_value(Tensor value) {
  if (!is_leaf()) throw ValueError("[set_value] expected a leaf, got the output of an op");
  if (!value.defined() || value.shape() != shape())
    throw ShapeError(cat("[set_value] expected shape ", shape(), ", got ",
                         value.defined() ? value.shape().str() : std::string("an undefined tensor")));
  if (value.dtype() != dtype())
    throw DTypeError(cat("[set_value] expected ", name_of(dtype()), ", got ", name_of(value.dtype())));
  if (state_->node) state_->node->saved[0] = value;
  state_->value = std::move(value);
}

Var Var::detach() const { return Var(context(), value()); }

std::ostream& operator<<(std::ostream& out, const Var& x) {
  if (!x.defined()) return out << Tensor();
  return out << (x.requires_grad() ? "requires grad, " : "") << x.value();
}

}  // namespace llsa

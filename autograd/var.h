// Var: a tensor that remembers how it was computed, and the reverse pass over that memory.
//
// The whole idea: every op computes its output with a kernel and, when an input wants a gradient, leaves a
// Node behind: the op's name, its inputs, the tensors that its backward will need, and a plain function for
// the chain rule. Nodes are numbered in the order of their birth, so an input always has a smaller number
// than what was computed from it, and backward() is a walk from large numbers to small ones. Each node hands
// dL/d(input) to its inputs; contributions to the same tensor are summed.
//
// Policy: gradients sum. The first contribution is moved in, later ones are added; leaves keep theirs until
// zero_grad(). Interior gradients and saved tensors are freed as soon as they are used. Walk and destruction
// are iterative, whatever the depth. A graph belongs to one thread at a time. Values that a graph has saved
// must not be overwritten before its backward.
#pragma once

#include <iosfwd>
#include <memory>

#include "../core/context.h"
#include "../core/tensor.h"

namespace llsa {

struct Node;

/// A handle: copies are the same variable. The default Var is undefined and stands for an absent optional
/// input.
class Var {
 public:
  Var() = default;
  /// A leaf. With requires_grad (floating dtypes only, otherwise DTypeError) backward() leaves dL/d(value) in
  /// grad(). The context must outlive the Var.
  Var(Context& context, Tensor value, bool requires_grad = false);

  bool defined() const { return state_ != nullptr; }
  const Tensor& value() const { return state().value; }
  const Shape& shape() const { return value().shape(); }
  std::int64_t size(int axis) const { return value().size(axis); }
  int rank() const { return value().rank(); }
  DType dtype() const { return value().dtype(); }
  Context& context() const { return *state().context; }
  /// The only element, as Context::item reads it: the host waits for the device. Throws ShapeError unless there is one element.
  double item() const { return context().item(value()); }

  /// True for leaves made so, and for everything computed from them while gradients are recorded.
  bool requires_grad() const { return defined() && state_->node != nullptr; }
  /// True for a Var that no recorded op made.
  bool is_leaf() const;
  /// The gradient that a leaf has collected, of the value's shape; undefined before the first backward, for
  /// interior variables and for leaves without requires_grad.
  const Tensor& grad() const;
  /// From now on the gradient of this leaf is added into `buffer`: contiguous, same shape, same dtype or f32.
  /// What the buffer holds counts as already collected. Throws ValueError for a Var that is no leaf requiring
  /// a gradient.
  void bind_grad(Tensor buffer);
  /// Forgets the collected gradient; fills a bound buffer with zeros.
  void zero_grad();
  /// Replaces the value of a leaf, for all its copies; shape and dtype stay. Throws ValueError for an
  /// interior variable.
  void set_value(Tensor value);
  /// Whether a leaf, with all its copies, requires a gradient from now on. Graphs recorded before keep what they
  /// were. Turned on, it starts without a gradient, turned off, it forgets the one that it has. Throws ValueError
  /// for an interior variable, DTypeError as the constructor.
  void set_requires_grad(bool on);
  /// The same value without history.
  Var detach() const;

  /// What made this variable, for ops and for tools that walk the graph; null without requires_grad.
  const std::shared_ptr<Node>& node() const { return state().node; }
  /// Which of the node's outputs it is.
  int slot() const { return state().slot; }
  /// Output `slot` of `node`; for the recording of ops.
  static Var made_by(Context& context, Tensor value, std::shared_ptr<Node> node, int slot);

 private:
  struct State {
    Tensor value;
    Context* context = nullptr;
    std::shared_ptr<Node> node;
    int slot = 0;
  };
  const State& state() const {
    if (!state_) throw Error("[var] used before a value was assigned to it");
    return *state_;
  }
  std::shared_ptr<State> state_;
};

/// The value as a tensor is written, with "requires grad" where that is so.
std::ostream& operator<<(std::ostream& out, const Var& x);

/// What backward() does with the graph it walks.
enum class Graph {
  free,  ///< saved tensors and edges go as soon as they are used; a second backward through them throws Error
  retain  ///< kept for another backward
};

/// What the buffers that leaves are bound to hold when a walk begins.
enum class GradBuffers {
  sums,  ///< anything: gradients are added to it
  zeros  ///< zeros: the first gradient of a leaf is written over them, in place where its op can do so
};

/// Adds d(sum(out * seed))/d(leaf) to the gradient of every leaf below `out`. Without a seed, `out` must have
/// one element and the seed is 1. Throws ValueError when `out` does not require a gradient, ShapeError for a
/// seed of another shape, Error when the graph was freed by an earlier backward. After an exception the
/// leaves may hold a part of their gradients.
void backward(const Var& out, const Tensor& seed = {}, Graph graph = Graph::free,
              GradBuffers buffers = GradBuffers::sums);

/// While one lives, ops of this thread record nothing, and their outputs do not require gradients. Nests.
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool before_;
};

/// True unless a NoGrad lives on this thread.
bool grad_enabled();

/// While one lives, ops record again inside of a NoGrad: activation checkpointing recomputes with it.
class EnableGrad {
 public:
  EnableGrad();
  ~EnableGrad();
  EnableGrad(const EnableGrad&) = delete;
  EnableGrad& operator=(const EnableGrad&) = delete;

 private:
  bool before_;
};

/// While one lives, every output and every gradient of this thread's ops is checked, and the first one that
/// holds a NaN or an infinity raises NonFiniteError with the op's name, whether it was its output or a
/// gradient, and the input shapes. Each check waits for the device: for hunting, not for training. Nests.
class FindNonFinite {
 public:
  FindNonFinite();
  ~FindNonFinite();
  FindNonFinite(const FindNonFinite&) = delete;
  FindNonFinite& operator=(const FindNonFinite&) = delete;

 private:
  bool before_;
};

}  // namespace llsa

// Node: one recorded op. How an op is made differentiable:
//
//   void scale_backward(BackwardStep& step) {                        // dx = scale dy
//     step.add(0, kernels::affine(step.context(), step.dy(), step.attributes<double>(), 0.0));
//   }
//   Var scale(const Var& x, double factor) {
//     return record("scale", {&x}, kernels::affine(x.context(), x.value(), factor, 0.0), scale_backward,
//                   /*saved=*/{}, factor);
//   }
//
// A backward sees its saved tensors and its attributes, nothing else: no closures, so what a graph keeps
// alive can be listed.
#pragma once

#include <any>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "var.h"

namespace llsa {

class BackwardStep;
using Backward = void (*)(BackwardStep& step);

/// Where a gradient goes: output `slot` of `node`, which is null when that input wants none.
struct Edge {
  std::shared_ptr<Node> node;
  int slot = 0;
  Shape shape;  ///< of the input; of rank 0 for an undefined one
  DType dtype = DType::f32;
};

struct Node {
  Node() = default;
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  bool is_leaf() const { return backward == nullptr; }

  const char* op = "leaf";     ///< a literal
  std::uint64_t sequence = 0;  ///< order of birth: larger than that of every input
  Context* context = nullptr;
  Backward backward = nullptr;
  std::vector<Edge> inputs;
  std::vector<Tensor> saved;  ///< what backward reads; of a leaf: its value
  std::any attributes;        ///< a small struct that backward reads
  std::vector<Tensor>
      gradients;        ///< one per output, collected during a walk; of a leaf: kept until zero_grad
  bool bound = false;   ///< leaf: gradients[0] is a buffer that is added into
  bool queued = false;  ///< waits in a running walk
  bool freed = false;   ///< its saved tensors were given up by an earlier backward
};

class Walk;

/// What a backward function sees: dL/d(outputs) on one side, dL/d(inputs) to be handed on at the other.
class BackwardStep {
 public:
  BackwardStep(Walk& walk, Node& node, std::vector<Tensor> gradients)
      : walk_(walk), node_(node), gradients_(std::move(gradients)) {}

  Context& context() const { return *node_.context; }
  /// Gradient of an output; undefined when nothing was computed from that output (possible with several
  /// outputs only).
  const Tensor& dy(int slot = 0) const { return gradients_[static_cast<std::size_t>(slot)]; }
  /// The same, given away: the step keeps no reference, so that the receiver may add into it.
  Tensor take_dy(int slot = 0) { return std::move(gradients_[static_cast<std::size_t>(slot)]); }
  const Tensor& saved(int index) const { return node_.saved[static_cast<std::size_t>(index)]; }
  int saved_count() const { return static_cast<int>(node_.saved.size()); }
  const Shape& input_shape(int input) const { return edge(input).shape; }
  int inputs() const { return static_cast<int>(node_.inputs.size()); }
  /// Whether anybody wants the gradient of this input; add() ignores what nobody wants.
  bool needs(int input) const { return edge(input).node != nullptr; }
  template <class A>
  const A& attributes() const {
    const A* found = std::any_cast<A>(&node_.attributes);
    if (!found) throw Error(cat("[", node_.op, "] backward asks for attributes that were not recorded"));
    return *found;
  }

  /// Hands on a contribution to dL/d(input), of the input's shape, in its dtype or that of sums (f32 for bf16). Throws
  /// ShapeError for any other.
  void add(int input, Tensor gradient);
  /// Where backward may write a contribution before it hands it on: in the dtype of sums, contiguous, the buffer of a
  /// leaf itself where that holds zeros. Undefined if nobody wants it.
  Tensor room(int input);
  /// Goes on through a graph that was just computed, as if it had been there instead of this node.
  void continue_with(const Var& output, Tensor gradient);

 private:
  const Edge& edge(int input) const { return node_.inputs[static_cast<std::size_t>(input)]; }

  Walk& walk_;
  Node& node_;
  std::vector<Tensor> gradients_;
};

/// The list of saved tensors, each copied once.
template <class... Tensors>
std::vector<Tensor> saving(Tensors&&... tensors) {
  std::vector<Tensor> list;
  list.reserve(sizeof...(tensors));
  (list.emplace_back(std::forward<Tensors>(tensors)), ...);
  return list;
}

/// Makes the Var of an op with one output, with a node behind it when gradients are recorded and an input
/// wants one. Undefined inputs are absent optional ones. Throws DeviceError when inputs belong to different
/// contexts.
Var record(const char* op, std::initializer_list<const Var*> inputs, Tensor output, Backward backward,
           std::vector<Tensor> saved = {}, std::any attributes = {});

/// The same for several inputs or outputs.
std::vector<Var> record_all(const char* op, std::span<const Var* const> inputs, std::vector<Tensor> outputs,
                            Backward backward, std::vector<Tensor> saved = {}, std::any attributes = {});

/// A node without looking at what the inputs want; see recompute().
std::shared_ptr<Node> make_node(const char* op, std::span<const Var* const> inputs, std::size_t outputs,
                                Backward backward, std::vector<Tensor> saved, std::any attributes);

/// Throws NonFiniteError when FindNonFinite is on and an output is not finite.
void check_outputs(const char* op, std::span<const Var* const> inputs, std::span<const Tensor> outputs,
                   Context& context);

}  // namespace llsa

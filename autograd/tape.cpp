// The tape: recording of ops, the walk backward, and the destruction of graphs.
//
// The walk keeps the nodes that have received a gradient in a heap ordered by their sequence number. Whatever
// uses a node's output was born after it, so when a node is the youngest of the heap its gradient is
// complete. Gradients of leaves are added on the spot. The order of all additions follows from the graph
// alone.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <map>
#include <string>

#include "autograd/node.h"
#include "kernels/check.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"

namespace llsa {
namespace {

thread_local bool recording = true;
thread_local bool finding_nonfinite = false;

std::uint64_t next_sequence() {
  static std::atomic<std::uint64_t> counter{0};
  return counter.fetch_add(1, std::memory_order_relaxed) + 1;
}

bool is_finite(Context& context, const Tensor& x) {
  if (!x.defined() || !is_floating(x.dtype())) return true;
  return context.item(kernels::all_finite(context, x)) != 0.0;
}

std::string shapes_of(const Node& node) {
  std::string text;
  for (const Edge& edge : node.inputs) text += cat(" ", edge.shape);
  return text.empty() ? " none" : text;
}

/// Whether `x` may be written: nobody else sees its storage, and no element of it stands for several.
bool is_exclusive(const Tensor& x) {
  if (x.storage().use_count() != 1) return false;
  for (int axis = 0; axis < x.rank(); ++axis)
    if (x.stride(axis) == 0 && x.size(axis) > 1) return false;
  return true;
}

/// a + b, into one of the two when nobody else holds it.
Tensor sum_of(Context& context, Tensor a, Tensor b) {
  if (is_exclusive(a)) {
    kernels::accumulate(context, b, a);
    return a;
  }
  if (is_exclusive(b)) {
    kernels::accumulate(context, a, b);
    return b;
  }
  return kernels::add(context, a, b);
}

}  // namespace

NoGrad::NoGrad() : before_(recording) { recording = false; }
NoGrad::~NoGrad() { recording = before_; }
bool grad_enabled() { return recording; }

EnableGrad::EnableGrad() : before_(recording) { recording = true; }
EnableGrad::~EnableGrad() { recording = before_; }

FindNonFinite::FindNonFinite() : before_(finding_nonfinite) { finding_nonfinite = true; }
FindNonFinite::~FindNonFinite() { finding_nonfinite = before_; }

/// One backward pass.
class Walk {
 public:
  Walk(Graph graph, GradBuffers buffers) : graph_(graph), buffers_(buffers) {}
  /// After an exception nodes wait here still; another walk must not find what this one left in them.
  ~Walk() {
    for (const auto& node : heap_) reset(*node);
  }
  Walk(const Walk&) = delete;
  Walk& operator=(const Walk&) = delete;

  void deliver(const std::shared_ptr<Node>& node, int slot, Tensor gradient) {
    if (node->freed)
      throw Error(
          cat("[backward] the graph below an output of '", node->op, "' was freed by an earlier backward"),
          "call the earlier one with Graph::retain, or compute the output again");
    Context& context = *node->context;
    Tensor& collected = node->gradients[static_cast<std::size_t>(slot)];
    if (node->bound) {
      if (gradient.raw() == collected.raw()) {
        // Its op has written it there.
      } else if (claim(collected)) {
        kernels::copy(context, gradient, collected);
      } else {
        kernels::accumulate(context, kernels::cast(context, gradient, collected.dtype()), collected);
      }
    } else if (collected.defined()) {
      collected = sum_of(context, std::move(collected), std::move(gradient));
    } else if (node->is_leaf() && !(is_exclusive(gradient) && gradient.is_contiguous())) {
      collected = kernels::clone(context, gradient);  // what a leaf keeps is its own
    } else {
      collected = std::move(gradient);
    }
    if (finding_nonfinite && !is_finite(context, collected))
      throw NonFiniteError(cat("[", node->op, "] the sum of the gradients of output ", slot,
                               " is not finite; shape ", collected.shape()));
    if (!node->is_leaf() && !node->queued) {
      node->queued = true;
      heap_.push_back(node);
      std::push_heap(heap_.begin(), heap_.end(), older);
    }
  }

  /// Whether the buffer of a leaf still holds zeros, all of it: from now on it does not. Parts of one buffer may be
  /// bound to other leaves, so places in memory are kept, not leaves.
  bool claim(const Tensor& buffer) {
    if (buffers_ != GradBuffers::zeros) return false;
    const std::byte* begin = buffer.raw();
    const std::byte* end = begin + buffer.nbytes();
    bool zeros = true;
    for (auto at = written_.upper_bound(begin); at != written_.end() && at->second < end;
         at = written_.erase(at)) {
      zeros = false;
      begin = std::min(begin, at->second);
      end = std::max(end, at->first);
    }
    written_.emplace(end, begin);
    return zeros;
  }

  void run() {
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), older);
      const std::shared_ptr<Node> node = std::move(heap_.back());
      heap_.pop_back();
      std::vector<Tensor> gradients(node->gradients.size());
      gradients.swap(node->gradients);
      node->queued = false;
      BackwardStep step(*this, *node, std::move(gradients));
      node->backward(step);
      if (graph_ == Graph::free) {
        node->freed = true;
        node->saved.clear();
        node->attributes.reset();
        node->inputs.clear();
      }
    }
  }

 private:
  static bool older(const std::shared_ptr<Node>& a, const std::shared_ptr<Node>& b) {
    return a->sequence < b->sequence;
  }
  static void reset(Node& node) {
    node.queued = false;
    for (Tensor& gradient : node.gradients) gradient = Tensor();
  }

  Graph graph_;
  GradBuffers buffers_;
  std::map<const std::byte*, const std::byte*> written_;  // end and begin of buffers without zeros
  std::vector<std::shared_ptr<Node>> heap_;
};

void BackwardStep::add(int input, Tensor gradient) {
  const Edge& to = edge(input);
  if (!to.node) return;
  const bool fits = gradient.defined() && gradient.shape() == to.shape &&
                    (gradient.dtype() == to.dtype || gradient.dtype() == kernels::accumulator_of(to.dtype));
  if (!fits)
    throw ShapeError(cat(
        "[", node_.op, "] backward made for input ", input, " of ", to.shape, " ", name_of(to.dtype), ": ",
        gradient.defined() ? cat(gradient.shape(), " ", name_of(gradient.dtype())) : std::string("nothing")));
  if (finding_nonfinite && !is_finite(context(), gradient))
    throw NonFiniteError(cat("[", node_.op, "] the gradient of input ", input, " is not finite; input shapes",
                             shapes_of(node_)));
  if (!to.node->bound) gradient = kernels::cast(context(), gradient, to.dtype);
  walk_.deliver(to.node, to.slot, std::move(gradient));
}

Tensor BackwardStep::room(int input) {
  const Edge& to = edge(input);
  if (!to.node) return {};
  const DType dtype = kernels::accumulator_of(to.dtype);
  if (to.node->bound) {
    const Tensor& buffer = to.node->gradients[0];
    if (buffer.dtype() == dtype && walk_.claim(buffer)) return buffer;
  }
  return context().empty(to.shape, dtype);
}

void BackwardStep::continue_with(const Var& output, Tensor gradient) {
  if (output.requires_grad()) walk_.deliver(output.node(), output.slot(), std::move(gradient));
}

void backward(const Var& out, const Tensor& seed, Graph graph, GradBuffers buffers) {
  if (!out.requires_grad())
    throw ValueError("[backward] the output does not depend on anything that requires a gradient",
                     "make a leaf with requires_grad = true, and compute outside of NoGrad");
  Tensor start = seed;
  if (!start.defined()) {
    if (out.shape().numel() != 1)
      throw ShapeError(cat("[backward] expected an output with one element, got ", out.shape()),
                       "reduce it to a scalar, or pass a seed");
    start = out.context().empty(out.shape(), out.dtype());
    kernels::fill(out.context(), start, 1.0);
  } else if (start.shape() != out.shape() || start.dtype() != out.dtype()) {
    throw ShapeError(cat("[backward] expected a seed of ", out.shape(), " ", name_of(out.dtype()), ", got ",
                         start.shape(), " ", name_of(start.dtype())));
  }
  const NoGrad no_grad;
  Walk walk(graph, buffers);
  walk.deliver(out.node(), out.slot(), std::move(start));
  walk.run();
}

std::shared_ptr<Node> make_node(const char* op, std::span<const Var* const> inputs, std::size_t outputs,
                                Backward backward, std::vector<Tensor> saved, std::any attributes) {
  auto node = std::make_shared<Node>();
  node->op = op;
  node->sequence = next_sequence();
  node->backward = backward;
  node->inputs.reserve(inputs.size());
  for (const Var* input : inputs) {
    Edge& edge = node->inputs.emplace_back();
    if (!input->defined()) continue;
    node->context = &input->context();
    edge.node = input->node();
    edge.slot = input->slot();
    edge.shape = input->shape();
    edge.dtype = input->dtype();
  }
  node->saved = std::move(saved);
  node->attributes = std::move(attributes);
  node->gradients.resize(outputs);
  return node;
}

void check_outputs(const char* op, std::span<const Var* const> inputs, std::span<const Tensor> outputs,
                   Context& context) {
  if (!finding_nonfinite) return;
  for (const Tensor& output : outputs) {
    if (is_finite(context, output)) continue;
    std::string shapes;
    for (const Var* input : inputs)
      shapes += input->defined() ? cat(" ", input->shape()) : std::string(" absent");
    throw NonFiniteError(cat("[", op, "] the output is not finite; input shapes", shapes));
  }
}

namespace {

/// The context of the inputs; whether one of them wants a gradient.
std::pair<Context*, bool> look_at(const char* op, std::span<const Var* const> inputs) {
  Context* context = nullptr;
  bool wanted = false;
  for (const Var* input : inputs) {
    if (!input->defined()) continue;
    if (context && context != &input->context())
      throw DeviceError(cat("[", op, "] expected inputs of one context, got several"));
    context = &input->context();
    wanted = wanted || input->requires_grad();
  }
  if (!context) throw ValueError(cat("[", op, "] expected at least one defined input"));
  return {context, wanted && recording};
}

}  // namespace

Var record(const char* op, std::initializer_list<const Var*> inputs, Tensor output, Backward backward,
           std::vector<Tensor> saved, std::any attributes) {
  const std::span<const Var* const> list(inputs.begin(), inputs.size());
  const auto found = look_at(op, list);
  check_outputs(op, list, std::span<const Tensor>(&output, 1), *found.first);
  if (!found.second) return Var(*found.first, std::move(output));
  return Var::made_by(*found.first, std::move(output),
                      make_node(op, list, 1, backward, std::move(saved), std::move(attributes)), 0);
}

std::vector<Var> record_all(const char* op, std::span<const Var* const> inputs, std::vector<Tensor> outputs,
                            Backward backward, std::vector<Tensor> saved, std::any attributes) {
  const auto found = look_at(op, inputs);
  check_outputs(op, inputs, outputs, *found.first);
  std::shared_ptr<Node> node;
  if (found.second)
    node = make_node(op, inputs, outputs.size(), backward, std::move(saved), std::move(attributes));
  std::vector<Var> vars;
  vars.reserve(outputs.size());
  for (std::size_t slot = 0; slot < outputs.size(); ++slot)
    vars.push_back(Var::made_by(*found.first, std::move(outputs[slot]), node, static_cast<int>(slot)));
  return vars;
}

namespace {

/// What a dying node owns that may own other nodes.
struct Remains {
  std::vector<Edge> inputs;
  std::any attributes;
};

/// Where remains wait while an outer destruction of this thread is under way.
thread_local std::vector<Remains>* waiting = nullptr;

}  // namespace

// A node owns its inputs, so freeing the last output of a long chain would recurse along it. Instead the
// first destructor on the stack frees what the inner ones leave in a list.
Node::~Node() {
  if (inputs.empty() && !attributes.has_value()) return;
  if (waiting) {
    waiting->push_back({std::move(inputs), std::move(attributes)});
    return;
  }
  std::vector<Remains> list;
  waiting = &list;
  list.push_back({std::move(inputs), std::move(attributes)});
  while (!list.empty()) {
    const Remains next = std::move(list.back());
    list.pop_back();
  }
  waiting = nullptr;
}

}  // namespace llsa

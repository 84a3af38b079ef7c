// Reverse-mode automatic differentiation in one file, for study.
//
//     c++ -std=c++20 -O2 examples/study/autograd.cpp -o study_autograd && ./study_autograd
//
// Every operation computes its result and leaves a node behind: its inputs, and a plain function for the chain
// rule. Nodes are numbered by birth, so an input always has a smaller number than what was computed from it.
// backward() walks from large numbers to small ones. When it reaches a node, everything that was computed from
// that node has been visited, so its gradient is complete, and the node can hand gradients on to its inputs. A
// node that is used several times sums what it receives.
//
// The values here are single numbers. In autograd/ they are tensors, and a node also lists the tensors that its
// backward function reads. The idea is the same.

#include <cmath>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace autograd_study {

struct Node {
  int birth = 0;
  double value = 0;
  double gradient = 0;                        ///< d(output of backward) / d(value)
  std::vector<std::shared_ptr<Node>> inputs;  ///< a leaf has none
  void (*backward)(Node& node) = nullptr;     ///< adds to the gradients of the inputs
};

/// A handle to a node: copies are the same variable. A number becomes a leaf.
struct Var {
  std::shared_ptr<Node> node = std::make_shared<Node>();

  Var(double value, const std::vector<Var>& inputs = {}, void (*backward)(Node&) = nullptr) {
    static int births = 0;
    node->birth = ++births;
    node->value = value;
    for (const Var& input : inputs) node->inputs.push_back(input.node);
    node->backward = backward;
  }
  double value() const { return node->value; }
};

// ---- operations: a value, and a line of calculus ----------------------------------------------------------

Var operator+(const Var& a, const Var& b) {
  return Var(a.value() + b.value(), {a, b}, [](Node& node) {
    node.inputs[0]->gradient += node.gradient;
    node.inputs[1]->gradient += node.gradient;
  });
}

Var operator*(const Var& a, const Var& b) {
  return Var(a.value() * b.value(), {a, b}, [](Node& node) {
    node.inputs[0]->gradient += node.gradient * node.inputs[1]->value;
    node.inputs[1]->gradient += node.gradient * node.inputs[0]->value;
  });
}

Var exp(const Var& x) {  // exp is its own derivative
  return Var(std::exp(x.value()), {x},
             [](Node& node) { node.inputs[0]->gradient += node.gradient * node.value; });
}

Var log(const Var& x) {
  return Var(std::log(x.value()), {x},
             [](Node& node) { node.inputs[0]->gradient += node.gradient / node.inputs[0]->value; });
}

// Operations that are made of others need no calculus of their own.
Var operator-(const Var& a, const Var& b) { return a + b * -1.0; }
Var operator/(const Var& a, const Var& b) { return a * exp(log(b) * -1.0); }  // for b > 0
Var tanh(const Var& x) { return 1.0 - 2.0 / (exp(x * 2.0) + 1.0); }

// ---- the walk ---------------------------------------------------------------------------------------------

/// Adds d(out) / d(leaf) to the gradient of every leaf that `out` was computed from.
void backward(const Var& out) {
  std::map<int, Node*> waiting = {{out.node->birth, out.node.get()}};
  out.node->gradient += 1;
  while (!waiting.empty()) {
    Node& node = *waiting.rbegin()->second;  // the youngest
    waiting.erase(node.birth);
    if (!node.backward) continue;  // a leaf keeps its gradient
    node.backward(node);
    node.gradient = 0;  // the next walk starts afresh
    for (const auto& input : node.inputs) waiting[input->birth] = input.get();
  }
}

// ---- is all this right? -----------------------------------------------------------------------------------

/// Runs all checks, describes them on `out`, and returns whether they have passed.
bool check(std::ostream& out) {
  bool passed = true;
  const auto report = [&](const std::string& what, bool right) {
    out << (right ? "ok      " : "FAILED  ") << what << '\n';
    passed = passed && right;
  };

  // Against finite differences, with every operation, and with variables that are used more than once.
  Var x(0.7), y(1.3);
  const auto f = [&] { return tanh(x * y - x) + log(y * y + x) * exp(x / y); };
  backward(f());
  for (const Var& variable : {x, y}) {
    constexpr double kStep = 1e-6;
    double& value = variable.node->value;
    value += kStep;
    const double above = f().value();
    value -= 2 * kStep;
    const double below = f().value();
    value += kStep;
    const double error = std::abs(variable.node->gradient - (above - below) / (2 * kStep));
    report("a derivative differs from finite differences by " + std::to_string(error), error < 1e-8);
  }

  // A network with four hidden units learns the exclusive or of two bits.
  std::vector<Var> weights;
  for (int i = 0; i < 17; ++i) weights.emplace_back(std::sin(5.0 * i + 1));
  double last = 0;
  for (int step = 0; step < 500; ++step) {
    Var loss = 0.0;
    for (int bits = 0; bits < 4; ++bits) {
      const double a = bits & 1, b = bits >> 1;
      Var guess = weights[16];
      for (int h = 0; h < 4; ++h)
        guess = guess + weights[h] * tanh(weights[h + 4] * a + weights[h + 8] * b + weights[h + 12]);
      const Var miss = guess - (a == b ? 0.0 : 1.0);
      loss = loss + miss * miss;
    }
    backward(loss);
    for (const Var& weight : weights) {
      weight.node->value -= 0.1 * weight.node->gradient;
      weight.node->gradient = 0;
    }
    last = loss.value();
  }
  report("exclusive or: after 500 steps the loss is " + std::to_string(last), last < 1e-3);
  return passed;
}

}  // namespace autograd_study

#ifndef STUDY_WITHOUT_MAIN
int main() { return autograd_study::check(std::cout) ? 0 : 1; }
#endif

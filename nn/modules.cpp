// Modules over named parameters.
#include "nn/modules.h"

#include "autograd/index.h"
#include "autograd/matmul.h"

namespace llsa::nn {

void Linear::declare(std::vector<ParameterSpec>& specs, const std::string& name, std::int64_t in,
                     std::int64_t out, bool bias, const Init& weight_init, const Init& bias_init) {
  specs.push_back({name + ".weight", Shape{out, in}, weight_init});
  if (bias) specs.push_back({name + ".bias", Shape{out}, bias_init});
}

Linear::Linear(const ParameterStore& store, const std::string& name)
    : weight_(store.at(name + ".weight")),
      bias_(store.contains(name + ".bias") ? store.at(name + ".bias") : Var()) {}

Linear::Linear(Var weight, Var bias) : weight_(std::move(weight)), bias_(std::move(bias)) {}

Var Linear::operator()(const Var& x) const { return linear(x, weight_, bias_); }

void Embedding::declare(std::vector<ParameterSpec>& specs, const std::string& name, std::int64_t count,
                        std::int64_t width, const Init& init) {
  specs.push_back({name + ".weight", Shape{count, width}, init});
}

Embedding::Embedding(const ParameterStore& store, const std::string& name)
    : weight_(store.at(name + ".weight")) {}

Var Embedding::operator()(const Tensor& ids) const { return embedding(weight_, ids); }

}  // namespace llsa::nn

// Small modules: parameters found by name, and the op they feed.
#pragma once

#include <string>
#include <vector>

#include "parameters.h"

namespace llsa::nn {

/// y = x w^T + b, with parameters name.weight [out,in] and name.bias [out] (absent with bias = false).
class Linear {
 public:
  static void declare(std::vector<ParameterSpec>& specs, const std::string& name, std::int64_t in,
                      std::int64_t out, bool bias, const Init& weight_init, const Init& bias_init);
  Linear() = default;
  Linear(const ParameterStore& store, const std::string& name);
  Linear(Var weight, Var bias);
  Var operator()(const Var& x) const;
  const Var& weight() const { return weight_; }
  const Var& bias() const { return bias_; }

 private:
  Var weight_, bias_;
};

/// rows of a table: name.weight [count,width].
class Embedding {
 public:
  static void declare(std::vector<ParameterSpec>& specs, const std::string& name, std::int64_t count,
                      std::int64_t width, const Init& init);
  Embedding(const ParameterStore& store, const std::string& name);
  /// ids i32 of any shape -> [..., width].
  Var operator()(const Tensor& ids) const;

 private:
  Var weight_;
};

}  // namespace llsa::nn

// Layers. A layer declares its parameters where it is made, under the name it is given, and is called like a
// function:
//
//   Parameters params(ctx, /*seed=*/0);
//   Sequential model{Linear(params, "up", 2, 128), relu, Linear(params, "down", 128, 3)};
//   Var y = model(x);
//
// A layer is a handle: copies share their parameters. The parameters live in `params`, which must outlive
// the layers. All constructors throw what Parameters::declare throws.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "../autograd/var.h"
#include "parameters.h"

namespace llsa::nn {

struct LinearOptions {
  bool bias = true;
  Init weight_init = Init::fan_in();
  Init bias_init = Init::fan_in();
};

/// y[...,out] = x[...,in] w^T + b, with parameters name.weight [out,in] and name.bias [out].
class Linear {
 public:
  Linear() = default;
  Linear(Parameters& params, const std::string& name, std::int64_t in, std::int64_t out,
         const LinearOptions& options = {});
  /// Over variables that exist already; the bias may be undefined.
  Linear(Var weight, Var bias);
  Var operator()(const Var& x) const;
  const Var& weight() const { return weight_; }
  const Var& bias() const { return bias_; }

 private:
  Var weight_, bias_;
};

/// Rows of a table by number: name.weight [count,width].
class Embedding {
 public:
  Embedding(Parameters& params, const std::string& name, std::int64_t count, std::int64_t width,
            const Init& init = Init::normal(0.02));
  /// ids i32 of any shape -> [...,width].
  Var operator()(const Tensor& ids) const;
  /// The same, so that an embedding can be the first layer of a Sequential.
  Var operator()(const Var& ids) const { return (*this)(ids.value()); }
  const Var& weight() const { return weight_; }

 private:
  Var weight_;
};

struct Conv2dOptions {
  std::array<std::int64_t, 2> stride = {1, 1};
  std::array<std::int64_t, 2> padding = {0, 0};
  bool bias = true;
  Init weight_init = Init::fan_in();
  Init bias_init = Init::fan_in();
};

/// Convolution x [b,in,h,w] -> [b,out,h',w'], with parameters name.weight [out,in,kh,kw] and name.bias [out].
class Conv2d {
 public:
  Conv2d(Parameters& params, const std::string& name, std::int64_t in, std::int64_t out,
         std::array<std::int64_t, 2> kernel, const Conv2dOptions& options = {});
  Var operator()(const Var& x) const;

 private:
  Var weight_, bias_;
  std::array<std::int64_t, 2> stride_, padding_;
};

/// Layer norm over the last axis of x [...,width], with parameters name.weight and name.bias [width].
class LayerNorm {
 public:
  LayerNorm(Parameters& params, const std::string& name, std::int64_t width, double eps = 1e-5);
  Var operator()(const Var& x) const;

 private:
  Var weight_, bias_;
  double eps_;
};

/// RMS norm over the last axis of x [...,width], with the parameter name.weight [width].
class RmsNorm {
 public:
  RmsNorm(Parameters& params, const std::string& name, std::int64_t width, double eps = 1e-5);
  Var operator()(const Var& x) const;

 private:
  Var weight_;
  double eps_;
};

/// The feed-forward part of a transformer block: [...,width] -> [...,hidden] -> GELU (tanh form) ->
/// [...,width]. Its two linear layers have the names of the diffusers layout: name.net.0.proj and name.net.2.
class Mlp {
 public:
  Mlp(Parameters& params, const std::string& name, std::int64_t width, std::int64_t hidden,
      const LinearOptions& options = {});
  /// Of layers that have other names.
  Mlp(Linear up, Linear down);
  Var operator()(const Var& x) const;

 private:
  Linear up_, down_;
};

/// Layers one after the other: anything that maps a Var to a Var, such as the layers here, a plain function
/// (relu), a lambda, or another Sequential. Without layers it returns its input.
class Sequential {
 public:
  using Layer = std::function<Var(const Var&)>;
  Sequential(std::initializer_list<Layer> layers) : layers_(layers) {}
  /// Adds a layer at the end.
  void add(Layer layer) { layers_.push_back(std::move(layer)); }
  Var operator()(const Var& x) const;

 private:
  std::vector<Layer> layers_;
};

}  // namespace llsa::nn

// Each layer declares its parameters and calls one op.
#include "nn/modules.h"

#include "autograd/conv.h"
#include "autograd/index.h"
#include "autograd/matmul.h"
#include "autograd/norm.h"

namespace llsa::nn {

Linear::Linear(Parameters& params, const std::string& name, std::int64_t in, std::int64_t out,
               const LinearOptions& options)
    : weight_(params.declare(name + ".weight", Shape{out, in}, options.weight_init.for_fans(in, out))) {
  if (options.bias) bias_ = params.declare(name + ".bias", Shape{out}, options.bias_init.for_fans(in, out));
}

Linear::Linear(Var weight, Var bias) : weight_(std::move(weight)), bias_(std::move(bias)) {}

Var Linear::operator()(const Var& x) const { return linear(x, weight_, bias_); }

Embedding::Embedding(Parameters& params, const std::string& name, std::int64_t count, std::int64_t width,
                     const Init& init)
    : weight_(params.declare(name + ".weight", Shape{count, width}, init.for_fans(count, width))) {}

Var Embedding::operator()(const Tensor& ids) const { return embedding(weight_, ids); }

Conv2d::Conv2d(Parameters& params, const std::string& name, std::int64_t in, std::int64_t out,
               std::array<std::int64_t, 2> kernel, const Conv2dOptions& options)
    : stride_(options.stride), padding_(options.padding) {
  const std::int64_t area = kernel[0] * kernel[1];
  const auto init = [&](const Init& law) { return law.for_fans(in * area, out * area); };
  weight_ = params.declare(name + ".weight", Shape{out, in, kernel[0], kernel[1]}, init(options.weight_init));
  if (options.bias) bias_ = params.declare(name + ".bias", Shape{out}, init(options.bias_init));
}

Var Conv2d::operator()(const Var& x) const { return conv2d(x, weight_, bias_, stride_, padding_); }

LayerNorm::LayerNorm(Parameters& params, const std::string& name, std::int64_t width, double eps)
    : weight_(params.declare(name + ".weight", Shape{width}, Init::ones())),
      bias_(params.declare(name + ".bias", Shape{width}, Init::zeros())),
      eps_(eps) {}

Var LayerNorm::operator()(const Var& x) const { return layer_norm(x, weight_, bias_, eps_); }

RmsNorm::RmsNorm(Parameters& params, const std::string& name, std::int64_t width, double eps)
    : weight_(params.declare(name + ".weight", Shape{width}, Init::ones())), eps_(eps) {}

Var RmsNorm::operator()(const Var& x) const { return rms_norm(x, weight_, eps_); }

Mlp::Mlp(Parameters& params, const std::string& name, std::int64_t width, std::int64_t hidden,
         const LinearOptions& options)
    : up_(params, name + ".net.0.proj", width, hidden, options),
      down_(params, name + ".net.2", hidden, width, options) {}

Mlp::Mlp(Linear up, Linear down) : up_(std::move(up)), down_(std::move(down)) {}

Var Mlp::operator()(const Var& x) const {
  return mlp(x, up_.weight(), up_.bias(), down_.weight(), down_.bias());
}

Var Sequential::operator()(const Var& x) const {
  Var y = x;
  for (const Layer& layer : layers_) y = layer(y);
  return y;
}

}  // namespace llsa::nn

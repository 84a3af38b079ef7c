// A model that learns the flow from noise to images, whatever it is made of: a function, and the few facts
// that training and sampling need. A Dit converts to it by itself; for a model of your own write
//
//   const nn::Denoiser model{.predict = net, .height = 16, .width = 16, .classes = 4};
//
// where net is anything that can be called as below, as a lambda or an object of yours with operator().
#pragma once

#include <cstdint>
#include <functional>

#include "../autograd/var.h"
#include "../core/error.h"
#include "../core/tensor.h"

namespace llsa::nn {

struct Denoiser {
  /// x_t [b,channels,h,w], t f32 [b] (1000 sigma, in 1..1000; in a cascade its own time, 0..999), y i32 [b] (a class, or `classes` for "no
  /// class"; ignored and possibly undefined when classes is 0) -> the flow v, of the shape of x_t.
  using Function = std::function<Var(const Var& x_t, const Tensor& t, const Tensor& y)>;

  Function predict = {};
  std::int64_t channels = 3;
  std::int64_t height = 0, width = 0;  ///< of the images that it was made for
  int classes = 0;                     ///< 0 = not class-conditional
  DType dtype = DType::f32;            ///< of the images that are drawn: f32, or f64
  double noise_scale = 0;              ///< s at that size, as in flow.h; 0 = noise_rescale of the size
  bool cascade = false;  ///< learns in stages: its loss and its sampler are those of diffusion/cascade.h

  /// The flow. Throws ValueError where there is no function.
  Var operator()(const Var& x_t, const Tensor& t, const Tensor& y) const {
    if (!predict) throw ValueError("[denoiser] expected a function in Denoiser::predict, got none");
    return predict(x_t, t, y);
  }
  /// The class that stands for "no class".
  int null_class() const { return classes; }
};

}  // namespace llsa::nn

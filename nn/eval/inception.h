// The Inception-v3 network of 2015 (TensorFlow graph of 2015-12-05), by whose features Frechet Inception Distance,
// Inception Score and Kernel Inception Distance are defined.
//
// Its weights are a file of the user's: the published ones as safetensors (scripts/inception-weights makes it). The
// names are those of the published state_dict: Mixed_5b.branch1x1.conv.weight and so on. A convolution has no bias and
// is followed by a batch norm (eps 1e-3, running statistics) and ReLU. The batch norm is folded into the convolution
// when the weights are loaded. Average pools divide by the valid pixels only, and the last block pools by maximum.
//
// Images become 8-bit levels, are resized to 299 x 299 without rounding, and enter as (level - 128) / 128. f32.
#pragma once

#include <array>
#include <initializer_list>
#include <map>
#include <string>

#include "../../core/context.h"
#include "../data/image_io.h"

namespace llsa::nn {

/// How images are brought to 299 x 299. They are different metrics, also where images are enlarged.
enum class InceptionResize {
  aa,  ///< antialiased, half-pixel centres: as torchmetrics from 1.8 on
  tf  ///< two neighbours, corner-aligned without the last one: as the TensorFlow op and its ports (torch-fidelity)
};
/// "aa", "tf". The inverse throws ValueError for another word.
std::string name_of(InceptionResize resize);
InceptionResize inception_resize(const std::string& name);

struct InceptionOutput {
  Tensor features;  ///< pool3, f32 [n,2048]
  Tensor logits;    ///< without the bias of the last layer, f32 [n,1008]
};

class Inception {
 public:
  static constexpr std::int64_t kFeatures = 2048;
  static constexpr std::int64_t kClasses = 1008;

  /// Loads the weights onto the context's device. Throws IoError for a file that cannot be read, that lacks a tensor,
  /// or has one of another shape or dtype.
  Inception(Context& ctx, const std::string& path);

  /// Levels f32 [n,3,H,W] in 0 .. 255 (levels_of) on the context's device. `maps`, if it is not null, receives the
  /// means over the maps after MaxPool_1 [n,64], MaxPool_2 [n,192] and Mixed_6e [n,768], and the resized levels.
  InceptionOutput operator()(const Tensor& levels, InceptionResize resize,
                             std::map<std::string, Tensor>* maps = nullptr) const;

  /// A hash of all weights.
  std::uint64_t fingerprint() const { return fingerprint_; }

 private:
  struct Convolution {
    Tensor weight, bias;  // with the batch norm folded in
    std::int64_t stride;
    std::array<std::int64_t, 2> padding;
  };
  Tensor convolution(const Tensor& x, const std::string& name) const;
  Tensor chain(const Tensor& x, const std::string& block, std::initializer_list<const char*> names) const;
  Tensor block(const Tensor& x, const std::string& name) const;
  Tensor resized(const Tensor& levels, InceptionResize resize) const;

  Context& ctx_;
  std::map<std::string, Convolution> convolutions_;
  Tensor classifier_;  // [1008,2048]
  std::uint64_t fingerprint_ = 0;
};

/// 8-bit levels of images f32 [n,3,H,W] in [-1, 1] on the CPU, as a picture file would hold them: round(127.5 (x + 1)),
/// clamped to 0 .. 255. Throws NonFiniteError for a NaN.
Tensor levels_of(Context& ctx, const Tensor& images);
/// Levels [1,3,H,W] of a decoded picture.
Tensor levels_of(Context& ctx, const Image& image);

}  // namespace llsa::nn

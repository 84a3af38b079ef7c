#include "nn/patches.h"

#include "autograd/view.h"

namespace llsa::nn {

Var pixels_to_patches(const Var& x, std::int64_t patch) {
  const std::int64_t b = x.size(0), c = x.size(1), p = patch;
  const std::int64_t rows = x.size(2) / p, columns = x.size(3) / p;
  const Var patches = permute(reshape(x, Shape{b, c, rows, p, columns, p}), {0, 2, 4, 1, 3, 5});
  return reshape(patches, Shape{b, rows * columns, c * p * p});
}

Var patches_to_pixels(const Var& tokens, std::int64_t rows, std::int64_t columns, std::int64_t patch) {
  const std::int64_t b = tokens.size(0), p = patch, c = tokens.size(2) / (p * p);
  const Var pixels = permute(reshape(tokens, Shape{b, rows, columns, p, p, c}), {0, 5, 1, 3, 2, 4});
  return reshape(pixels, Shape{b, c, rows * p, columns * p});
}

}  // namespace llsa::nn

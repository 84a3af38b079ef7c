// Convolution in a build without cuDNN: always im2col and a matrix product.
#include "kernels/cuda/cudnn_conv.h"

namespace llsa::kernels::cuda {

bool convolve(Context&, const ConvGeometry&, const Tensor&, const Tensor&, const Tensor&, const Tensor&) {
  return false;
}
bool convolve_input_gradient(Context&, const ConvGeometry&, const Tensor&, const Tensor&, const Tensor&) {
  return false;
}
bool convolve_weight_gradient(Context&, const ConvGeometry&, const Tensor&, const Tensor&, const Tensor&) {
  return false;
}

}  // namespace llsa::kernels::cuda

// Convolution in a build without cuDNN: always im2col and a matrix product.
#include "kernels/backend/layers.h"

namespace llsa::kernels::cuda {

constinit const ConvLibrary kConvLibrary = {};

}  // namespace llsa::kernels::cuda

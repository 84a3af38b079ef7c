// The contract of a device: every function that it provides, in groups, on the four pages of kernels/backend/.
//
// kernels/<op>.cpp checks the arguments of a public function, allocates the results and calls
// backend(ctx).<group>.<function>. The maths is in the body, kernels/cpu/<op>.cpp and kernels/cuda/<op>.cu: it
// defines its functions in an unnamed namespace and ends with its group,
//
//     constinit const PoolBackend kPool = {.mean_pool = mean_pool, .mean_pool_backward = mean_pool_backward};
//
// A group has to name all of its functions: an Entry (backend/entry.h) has no default, so a forgotten one is an error.
// The groups are initialised by the compiler, so they are there before any code of the program runs.
#pragma once

#include "../core/context.h"
#include "backend/attention.h"
#include "backend/layers.h"
#include "backend/tensors.h"
#include "backend/training.h"
#include "bench_ceilings.h"

namespace llsa::kernels {

struct Backend {
  const CopyBackend& copy;
  const ElementwiseBackend& elementwise;
  const ReduceBackend& reduce;
  const IndexBackend& index;
  const RandomBackend& random;
  const MatmulBackend& matmul;
  const ConvBackend& conv;
  const ConvLibrary& conv_library;
  const SoftmaxBackend& softmax;
  const NormBackend& norm;
  const RopeBackend& rope;
  const PoolBackend& pool;
  const AttentionBackend& attention;
  const AttentionLibrary& attention_library;
  const LlsaStagesBackend& llsa_stages;
  const LlsaBackend& llsa;
  const LinearAttentionBackend& linear_attention;
  const LossBackend& loss;
  const DiffusionBackend& diffusion;
  const OptimBackend& optim;
  const CeilingBackend& ceilings;
};

/// Of a device. Throws DeviceError for a CUDA device in a build without CUDA.
const Backend& backend(Device device);
inline const Backend& backend(const Context& ctx) { return backend(ctx.device()); }

namespace cpu {
extern const Backend kBackend;
}
namespace cuda {
extern const Backend* const kBackend;  ///< null in a build without CUDA
}

}  // namespace llsa::kernels

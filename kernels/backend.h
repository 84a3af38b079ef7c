// The backend: one table of functions per device type.
//
// kernels/<op>.cpp checks arguments, allocates results and calls through the table; the maths is in
// kernels/cpu/<op>.cpp and, in builds with CUDA, in its twin kernels/cuda/<op>.cu. A build without CUDA has a
// table whose functions throw, so no caller needs a condition. Every op group declares its part of the table
// in kernels/<op>_table.h; every table names every field (a forgotten one is a compiler error,
// -Wmissing-field-initializers).
#pragma once

#include "../core/context.h"
#include "attention_table.h"
#include "conv_table.h"
#include "copy_table.h"
#include "diffusion_table.h"
#include "elementwise_table.h"
#include "index_table.h"
#include "llsa_table.h"
#include "loss_table.h"
#include "matmul_table.h"
#include "norm_table.h"
#include "optim_table.h"
#include "pool_table.h"
#include "random_table.h"
#include "reduce_table.h"
#include "rope_table.h"
#include "softmax_table.h"
#include "tuning_table.h"

namespace llsa::kernels {

struct Backend {
  AttentionBackend attention;
  LlsaBackend llsa;
  CopyBackend copy;
  ElementwiseBackend elementwise;
  ReduceBackend reduce;
  MatmulBackend matmul;
  ConvBackend conv;
  DiffusionBackend diffusion;
  SoftmaxBackend softmax;
  NormBackend norm;
  RopeBackend rope;
  IndexBackend index;
  PoolBackend pool;
  LossBackend loss;
  RandomBackend random;
  OptimBackend optim;
  TuningBackend tuning;
};

/// The table for the context's device.
const Backend& backend(const Context& ctx);

namespace cpu {
const Backend& table();
}
namespace cuda {
/// In a build without CUDA every function of this table throws DeviceError.
const Backend& table();
}  // namespace cuda

}  // namespace llsa::kernels

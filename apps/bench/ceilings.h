// What this machine reaches, measured in the same run as everything that is put beside it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/bench/timing.h"
#include "core/context.h"
#include "nn/json.h"

namespace llsa::apps {

/// Scattered reads of 2 KiB out of a set that is in the L2 cache, or is not.
struct GatherRate {
  std::int64_t bytes = 0;  ///< of the set
  double past_l1 = 0;      ///< GB/s, cp.async.cg
  double through_l1 = 0;   ///< GB/s, cp.async.ca
};

/// 0 = not measured on this kind of device.
struct Ceilings {
  double matmul = 0;  ///< GFLOP/s of a square product through the library's public function
  double fma = 0;     ///< CPU: GFLOP/s of independent multiply-adds on full vectors of f32
  double mma = 0;     ///< CUDA: GFLOP/s of mma.sync in bf16 out of registers
  double exp2 = 0;    ///< CUDA: 10^9 exponentials per second
  double copy = 0;    ///< CUDA: GB/s of a copy on the device, bytes read and bytes written together
  std::vector<GatherRate> gather;

  /// GFLOP/s of the arithmetic units alone.
  double units() const { return mma > 0 ? mma : fma; }
  /// "multiply-add" or "mma.sync".
  const char* units_name() const { return mma > 0 ? "mma.sync" : "multiply-add"; }
};

/// How much work is measured; the defaults are for a large GPU and for any CPU.
struct CeilingSizes {
  std::int64_t cpu_side = 1536;                        ///< of the product on the CPU
  std::int64_t side = 8192;                            ///< of the product on a device
  std::int64_t copy_bytes = std::int64_t{1} << 30;     ///< of the tensor that is copied
  std::vector<std::int64_t> gather_mb = {17, 34, 67};  ///< sets, in MiB
  std::int64_t rounds = 1 << 14;                       ///< of the loops
  std::int64_t gather_rounds = 1024;
  double seconds = 0.5;  ///< for each figure
  std::int64_t flush_bytes = kFlushBytes;
};

/// Measures all there is on the context's device; the product in `dtype`. Results of the loops are checked:
/// throws Error for a wrong one.
Ceilings measure_ceilings(Context& ctx, DType dtype, const CeilingSizes& sizes = {});

/// Lines for the reader, and the same for --json.
std::vector<std::string> describe(const Ceilings& ceilings);
void add_ceilings(nn::JsonWriter& json, const Ceilings& ceilings);

}  // namespace llsa::apps

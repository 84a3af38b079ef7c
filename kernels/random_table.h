// Random tensors, as the backends provide them.
#pragma once

#include "../core/context.h"

namespace llsa::kernels {

enum class Distribution : std::uint8_t { uniform, normal };

struct RandomBackend {
  /// x contiguous [R,L], any floating dtype: element j of row r is element j of the Philox stream
  /// sample_stream(stream, sample_ids[r]), or of `stream` itself when sample_ids (contiguous i64 [R]) is
  /// undefined.
  void (*fill_random)(Context& ctx, Distribution distribution, std::uint64_t seed, std::uint64_t stream,
                      const Tensor& sample_ids, const Tensor& x);
};

}  // namespace llsa::kernels

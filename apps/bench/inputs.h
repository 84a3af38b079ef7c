// Inputs of the attention benchmark: what the kernels get from a model, without one.
#pragma once

#include <cstdint>
#include <string>

#include "core/context.h"

namespace llsa::apps {

struct AttentionInputs {
  Tensor q, k, v, d_o;  ///< contiguous [b,H,N,D] of one dtype
};

enum class InputKind : std::uint8_t {
  randn,      ///< independent standard normals: every query finds its keys elsewhere
  structured  ///< smooth fields on a grid: neighbours choose alike, a few keys are chosen by many
};
/// "randn", "structured".
std::string name_of(InputKind kind);

/// Rows of the most nearly square grid of N cells: the largest divisor up to sqrt(N).
std::int64_t grid_rows(std::int64_t tokens);

/// randn: q, k, v, d_o from Philox streams of the seed. structured: 32 channels of octave noise on the grid
/// (amplitudes 1/f), in Morton order, a random projection to q, k and v, RMSNorm of q and k, RoPE; d_o is
/// normal. Made on the context's device; D a multiple of 4.
AttentionInputs make_inputs(Context& ctx, InputKind kind, std::int64_t batch, std::int64_t heads,
                            std::int64_t tokens, std::int64_t head_dim, DType dtype, std::uint64_t seed);

}  // namespace llsa::apps

// Makers of sample arguments for the op table. Numbers depend on the seed alone and are the same in f32 and
// f64.
#pragma once

#include "op_table.h"

namespace llsa::samples {

// b = batch, N = tokens, C = width; normal numbers unless said otherwise.
OpSample one(const OpRequest& request);       ///< [b,N,C]
OpSample positive(const OpRequest& request);  ///< [b,N,C] in [0.5, 1.5)
OpSample pair(const OpRequest& request);      ///< [b,N,C] twice
OpSample row(const OpRequest& request);       ///< [b,N,C], [C]
OpSample outer(const OpRequest& request);     ///< [b,N,1], [b,1,C]
OpSample quotient(const OpRequest& request);  ///< [b,N,C], [b,1,C] in [0.5, 1.5)
OpSample choice(const OpRequest& request);    ///< [b,N,C], [b,1,C]; constant i32 [N,1], 1 at even tokens
OpSample parts(const OpRequest& request);     ///< [b,N,C], [b,3,C]
OpSample thirds(const OpRequest& request);    ///< [b,N,3C]
OpSample column(const OpRequest& request);    ///< [b,1,C]; constant [b,N,C]

/// Factors of a [b,N,C] by [b,C,C+1] product, stored transposed where said.
OpSample matmul(const OpRequest& request);
OpSample matmul_ta(const OpRequest& request);
OpSample matmul_tb(const OpRequest& request);
OpSample matmul_tab(const OpRequest& request);
OpSample matmul_shared(const OpRequest& request);  ///< [b,2,N,C], [C,C+1]
OpSample linear(const OpRequest& request);         ///< [b,N,C], [C+1,C], [C+1]
OpSample mlp(const OpRequest& request);            ///< as linear, and [C,C+1], [C]
OpSample conv(const OpRequest& request);           ///< [b,C,6,N], [C+1,C,3,2], [C+1]
OpSample patches(const OpRequest& request);        ///< [b,3,4,2N], [C,3,2,2], [C]

OpSample norm(const OpRequest& request);       ///< [b,N,C], [C], [C]
OpSample modulate(const OpRequest& request);   ///< [b,N,C], [b,C], [b,C]
OpSample gate(const OpRequest& request);       ///< [b,N,C], [b,N,C], [b,C]
OpSample gate_norm(const OpRequest& request);  ///< [b,N,C], [b,N,C], [b,3C]

// D = width, rounded up to an even number where it is rotated; H = 2. Constants: cos, sin [N,D/2].
OpSample heads(const OpRequest& request);      ///< [b,H,N,D]
OpSample qkv(const OpRequest& request);        ///< [b,N,3HD], [D], [D]
OpSample qkv_plain(const OpRequest& request);  ///< [b,N,3HC]

OpSample table(const OpRequest& request);   ///< [C+2,C]; ids [b,N]
OpSample order(const OpRequest& request);   ///< [b,N,C]; order, inverse [N]
OpSample labels(const OpRequest& request);  ///< [N,C+1]; labels [N]

OpSample attention(const OpRequest& request);  ///< [b,H,N,D] three times
OpSample cross(const OpRequest& request);      ///< [b,H,N,D], [b,H,N+3,D] twice
/// As attention, with options and plan; constants: the index tables chosen from these numbers in f64.
OpSample llsa(const OpRequest& request);
/// As llsa, with the plan and the picks of VSA and SLA: blocks of 4 tokens and 2 picks, or of 16 and 8.
OpSample picked_blocks(const OpRequest& request);
OpSample vsa(const OpRequest& request);   ///< as picked_blocks, with a gate [b,H,N,D]
OpSample sla(const OpRequest& request);   ///< as picked_blocks, with W [D,D] and a bias [D]
OpSample rest(const OpRequest& request);  ///< as picked_blocks, but the last one [b,H,N,D+1]

}  // namespace llsa::samples

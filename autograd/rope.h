// Rotary position embedding, and its fusion with the head split and the q/k norm.
#pragma once

#include "../kernels/rope.h"
#include "var.h"

namespace llsa {

/// y_2i = cos x_2i - sin x_2i+1, y_2i+1 = sin x_2i + cos x_2i+1 with the table's angle [n,i] for token n of x
/// [b,H,N,D]. dx is dy turned back; saves the table. Su et al., arXiv 2104.09864.
Var rope(const Var& x, const kernels::RopeTable& table);

struct QkvVars {
  Var q, k, v;  ///< [b,H,N,D], contiguous
};

/// qkv [b,N,3C] = (q, k, v), C = H D, to head-major q, k, v; q and k normalised per head (rms_norm over D
/// with weights [D]) and rotated. An undefined weight or table leaves that step out. Saves qkv, weights, 1 /
/// rms of q and k, table.
QkvVars qkv_split(const Var& qkv, int heads, const Var& q_weight, const Var& k_weight, double eps,
                  const kernels::RopeTable& table);

}  // namespace llsa

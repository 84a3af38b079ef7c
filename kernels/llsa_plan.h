// The plan of Log-linear Sparse Attention: what the options mean for a number of tokens (arXiv 2512.16615),
// what it costs, and which kernels take it.
//
// B consecutive tokens of one level are one token of the next: n_0 = N, n_l = ceil(n_{l-1} / B). A query
// selects K_l tokens of level l, coarsest level L first. It attends to the fine tokens below its picks of
// level 1, to all the candidates that it met on levels 1..L_e, and to all of level L.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "attention.h"

namespace llsa {

/// Options of llsa_attention.
struct LlsaOptions {
  int block = 16;               ///< B >= 2
  std::vector<int> topk = {8};  ///< one K for all levels, or K_1..K_L, finest first; each >= 1
  int levels = -1;              ///< L; -1 = auto = max(0, m - 1), m the largest integer with B^m <= N
  int enriched = -1;            ///< L_e: coarse tokens of levels 1..L_e are attended; -1 = all L levels
  bool reweight = true;         ///< whether a coarse token counts as often as it covers fine tokens
  bool own = false;             ///< on every level a query picks its own node and the K - 1 best others
};

/// Options resolved for N tokens. Element l - 1 of a vector belongs to level l; `count` begins with level 0.
struct LlsaPlan {
  std::int64_t tokens = 0;  ///< N
  int block = 0;            ///< B
  int levels = 0;           ///< L; 0 = full attention
  int enriched = 0;         ///< L_e
  bool reweight = true;
  bool own = false;
  std::vector<std::int64_t> count;  ///< n_0 .. n_L
  std::vector<int> topk;            ///< K_1 .. K_L
  std::vector<int> width;           ///< w_1 .. w_L: columns of the index tables

  /// c_l[i] = min(B^l, N - i B^l): how many fine tokens token i of level l covers.
  std::int64_t covered(int level, std::int64_t i) const;
  /// Whether queries attend to tokens of this level: 0, or one of 1..L_e.
  bool attends(int level) const { return level <= enriched; }
  /// The largest number of keys that one query attends to.
  std::int64_t keys_per_query() const;
};

namespace kernels {

/// Checks the options and resolves them. Throws ValueError: N < 1, B < 2, a K < 1, a number of K that is
/// neither 1 nor L, L beyond what N and B allow (n_{L-1} > 1), L_e outside 0..L.
LlsaPlan llsa_plan(std::int64_t tokens, const LlsaOptions& options);

/// The plan of attention over picked blocks alone, as in VSA and SLA: one level, no coarse tokens. A sequence of
/// one block attends to all of itself, so any N >= 1 fits. Throws ValueError: N < 1, block < 2, topk < 1.
LlsaPlan picked_blocks_plan(std::int64_t tokens, int block, int topk);

/// Operations of the products over the attended keys (2 forward, 5 backward) and of the scores that the
/// selection compares. Partly filled blocks count as full ones.
AttentionFlops llsa_flops(const LlsaPlan& plan, std::int64_t batch_heads, std::int64_t d);

// ---- tensor cores: which problems the CUDA kernels for them take -----------------------------------------
//
// All other problems go to the plain kernels, which are slower. The kernels decide by these functions;
// besides, they need rows that begin at multiples of 16 bytes and, for the selection, b H <= 65535, the limit
// of a grid.

/// These kernels number tokens with ints, so they take fewer tokens than this.
constexpr std::int64_t kTensorCoreTokens = std::int64_t{1} << 30;

/// Why attention over a plan with heads of dimension d does not run on tensor cores ("head dimension 48 is
/// not one of 32, 64, 128"); empty where it does. With 0 levels it speaks of full attention.
std::string attend_obstacle(const LlsaPlan& plan, std::int64_t d, DType dtype);

/// Why one level of the selection does not run on tensor cores; empty where it does. `width` is the number of
/// picks of a query. Below the coarsest level, candidates come in blocks of `block`.
std::string select_obstacle(int width, int block, bool coarsest, std::int64_t d, DType dtype);

/// A sentence for the user about the part of LLSA that runs on the plain kernels, and why. Empty if there is
/// none, and with 0 levels, where full attention is computed instead.
std::string plain_kernels_text(const LlsaPlan& plan, std::int64_t d, DType dtype);

}  // namespace kernels
}  // namespace llsa

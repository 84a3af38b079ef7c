// The plan of Log-linear Sparse Attention: what the options mean for a number of tokens (arXiv 2512.16615).
//
// B consecutive tokens of one level are one token of the next: n_0 = N, n_l = ceil(n_{l-1} / B). A query
// selects K_l tokens of level l, coarsest level L first, and attends to the fine tokens below its picks of
// level 1, to the whole candidate sets it met on the way down (levels 1..L_e), and to all of level L.
#pragma once

#include <cstdint>
#include <vector>

#include "attention.h"

namespace llsa::kernels {

struct LlsaOptions {
  int block = 16;               ///< B >= 2
  std::vector<int> topk = {8};  ///< one K for all levels, or K_1..K_L, finest first; each >= 1
  int levels = -1;              ///< L; -1 = auto = max(0, m - 1), m the largest integer with B^m <= N
  int enriched = -1;            ///< L_e: coarse tokens of levels 1..L_e are attended; -1 = all L levels
  bool reweight =
      true;  ///< a coarse token counts as the fine tokens it covers: ln of their number on its logit
};

/// Options resolved for N tokens. Vectors named by level hold level l at [l - 1], except `count`.
struct LlsaPlan {
  std::int64_t tokens = 0;  ///< N
  int block = 0;            ///< B
  int levels = 0;           ///< L; 0 = plain full attention
  int enriched = 0;         ///< L_e
  bool reweight = true;
  std::vector<std::int64_t> count;  ///< n_0 .. n_L
  std::vector<int> topk;            ///< K_1 .. K_L
  std::vector<int> width;           ///< w_1 .. w_L: columns of the index tables

  /// c_l[i] = min(B^l, N - i B^l): how many fine tokens token i of level l covers.
  std::int64_t covered(int level, std::int64_t i) const;
  /// Whether the attended set holds tokens of this level: 0, or one of 1..L_e.
  bool attends(int level) const { return level <= enriched; }
  /// Largest number of keys that one query attends to.
  std::int64_t keys_per_query() const;
};

/// Bytes of a word that has a bit for each of the B children of a token: 2, 4 or 8; 0 for B > 64, which no
/// word holds.
int llsa_word_bytes(int block);

/// Checks the options and resolves them. Throws ValueError: N < 1, B < 2, a K < 1 or as many K as there are
/// no levels, L beyond what N and B allow (n_{L-1} > 1), L_e outside 0..L.
LlsaPlan llsa_plan(std::int64_t tokens, const LlsaOptions& options);

/// Operations of the products over the keys that are attended (2 forward, 5 backward) and of the scores that
/// the selection compares, partly filled blocks counted as full.
AttentionFlops llsa_flops(const LlsaPlan& plan, std::int64_t batch_heads, std::int64_t d);

}  // namespace llsa::kernels

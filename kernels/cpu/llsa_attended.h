// The attended set of LLSA on the CPU: which rows of which level the queries of a block attend to.
#pragma once

#include <vector>

#include "../llsa.h"
#include "../llsa_operands.h"
#include "attention_driver.h"

namespace llsa::kernels::cpu {

/// Keys and values of all attended levels in their dtype of accumulation, packed, with the logarithms of the
/// weights.
template <class A>
class Attended {
 public:
  Attended(Context& ctx, const LlsaOperands& args, bool backward) : plan_(args.plan), index_(args.index) {
    for (std::size_t l = 0; l < args.k.size(); ++l) {
      const int level = static_cast<int>(l);
      kept_.push_back(accumulable(ctx, args.k[l]));
      kept_.push_back(accumulable(ctx, args.v[l]));
      const Heads<A> k(kept_[2 * l]), v(kept_[2 * l + 1]);
      TokenSet<A> set(k, v);
      const bool weighted = l > 0 && plan_.reweight;
      const std::int64_t n = plan_.count[l];
      // All tokens but the last cover the same number of fine tokens.
      set.score = key_scores<A>(ctx, n, weighted ? std::log2(static_cast<A>(plan_.covered(level, 0))) : A(0));
      if (weighted)
        set.score.template data<A>()[n - 1] = std::log2(static_cast<A>(plan_.covered(level, n - 1)));
      // Blocks that are not whole panels are gathered tile by tile.
      if (level == plan_.levels || plan_.block % tile::kWidth<A> == 0) set.pack(ctx, backward);
      levels_.push_back(set);
    }
  }

  std::vector<TokenSet<A>>& levels() { return levels_; }
  const TokenSet<A>& level(int l) const { return levels_[static_cast<std::size_t>(l)]; }

  /// The key lists of one head.
  class Head {
   public:
    Head(const Attended& of, std::int64_t head) : plan_(of.plan_) {
      for (int l = 0; l <= plan_.enriched; ++l) all_.push_back(of.level(l).all(head));
      for (std::size_t l = 0; l < of.index_.size(); ++l)
        picks_.push_back(of.index_[l].template data<std::int32_t>() +
                         head * plan_.count[l + 1] * plan_.width[l]);
      d_ = of.level(0).y.d;
    }

    /// Appends what query block i attends to, neighbouring blocks joined.
    void operator()(std::int64_t i, std::vector<tile::Others<A>>& out) const {
      const std::int64_t block = plan_.block;
      std::int64_t node = i;
      for (int level = 0; level < plan_.levels && plan_.attends(level); ++level, node /= block) {
        const auto l = static_cast<std::size_t>(level);
        const std::int64_t n = plan_.count[l], n_above = plan_.count[l + 1];
        const int width = plan_.width[l];
        const std::int32_t* const row = picks_[l] + node * width;
        std::int32_t next = 0;  // the least that may come
        for (int e = 0; e < width;) {
          const std::int32_t first = row[e];
          if (first < next || first >= n_above) {
            check_unused(row, e, width, n_above, level + 1);
            break;
          }
          next = first + 1;
          while (++e < width && row[e] == next && next < n_above) ++next;
          const std::int64_t begin = first * block;
          out.push_back(all_[l].part(begin, std::min(next * block, n) - begin, d_));
        }
      }
      if (plan_.attends(plan_.levels)) out.push_back(all_.back());
    }

   private:
    const LlsaPlan& plan_;
    std::vector<tile::Others<A>> all_;        ///< by level
    std::vector<const std::int32_t*> picks_;  ///< [l - 1] = I_l
    std::int64_t d_ = 0;
  };

  Head operator()(std::int64_t head) const { return Head(*this, head); }

 private:
  /// From place e on, not the first, a row holds nothing but -1.
  static void check_unused(const std::int32_t* row, int e, int width, std::int64_t keys, int level) {
    for (int at = e; at < width; ++at)
      if (e == 0 || row[at] != -1)
        throw ValueError(
            cat("[llsa_attention] a row of the level-", level, " indices has ", row[at], " at place ", at),
            cat("rows hold ascending indices below ", keys, ", at least one, then -1"));
  }

  const LlsaPlan& plan_;
  const std::vector<Tensor>& index_;
  std::vector<TokenSet<A>> levels_;
  std::vector<Tensor> kept_;
};

}  // namespace llsa::kernels::cpu

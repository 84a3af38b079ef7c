// The attended set of LLSA on the CPU: which rows of which level the queries of a block attend to.
#pragma once

#include <vector>

#include "../llsa.h"
#include "../llsa_table.h"
#include "attention_driver.h"

namespace llsa::kernels::cpu {

/// Operands of all attended levels in their dtype of accumulation, with the logarithms of the weights.
template <class A>
class Attended {
 public:
  struct Level {
    Heads<A> k, v;
    const A* weight = nullptr;  ///< log2 c_l[i]; null = 0
    A* dk = nullptr;            ///< [b,H,n_l,D] where gradients are collected by row
    A* dv = nullptr;
  };

  Attended(Context& ctx, const LlsaOperands& args) : plan_(args.plan), index_(args.index) {
    for (std::size_t l = 0; l < args.k.size(); ++l) {
      Level level;
      level.k = Heads<A>(keep(accumulable(ctx, args.k[l])));
      level.v = Heads<A>(keep(accumulable(ctx, args.v[l])));
      if (l > 0 && plan_.reweight) level.weight = log_weights(ctx, static_cast<int>(l));
      levels_.push_back(level);
    }
  }

  std::vector<Level>& levels() { return levels_; }
  const Level& level(int l) const { return levels_[static_cast<std::size_t>(l)]; }

  /// I_l of a node, a row of plan.width[l - 1] entries.
  const std::int32_t* picks(int l, std::int64_t head, std::int64_t node) const {
    const auto at = static_cast<std::size_t>(l);
    return index_[at - 1].template data<std::int32_t>() +
           (head * plan_.count[at] + node) * plan_.width[at - 1];
  }

  /// Tokens [begin, end) of a level as rows of a query-major tile.
  tile::Rows<A> rows(int l, std::int64_t head, std::int64_t begin, std::int64_t end) const {
    const Level& from = level(l);
    tile::Rows<A> rows;
    rows.y = from.k.row(head, begin);
    rows.ldy = from.k.stride;
    rows.h = from.v.row(head, begin);
    rows.ldh = from.v.stride;
    rows.rows = end - begin;
    if (from.weight) rows.score = from.weight + begin;
    if (from.dk) {
      rows.dy = from.dk + (head * from.k.tokens + begin) * from.k.d;
      rows.dh = from.dv + (head * from.k.tokens + begin) * from.k.d;
    }
    return rows;
  }

  /// Appends what query block i attends to, neighbouring blocks joined.
  void operator()(std::int64_t head, std::int64_t i, std::vector<tile::Rows<A>>& out) const {
    const std::int64_t block = plan_.block;
    std::int64_t node = i;
    for (int l = 0; l < plan_.levels; ++l, node /= block) {
      if (!plan_.attends(l)) break;
      const std::int64_t n = plan_.count[static_cast<std::size_t>(l)];
      const std::int64_t n_above = plan_.count[static_cast<std::size_t>(l) + 1];
      const std::int32_t* const row = picks(l + 1, head, node);
      const int width = plan_.width[static_cast<std::size_t>(l)];
      check(row, width, n_above, l + 1);
      for (int e = 0; e < width && row[e] >= 0;) {
        int last = e + 1;
        while (last < width && row[last] == row[last - 1] + 1) ++last;
        out.push_back(rows(l, head, row[e] * block, std::min((row[last - 1] + 1) * block, n)));
        e = last;
      }
    }
    if (plan_.attends(plan_.levels)) out.push_back(rows(plan_.levels, head, 0, plan_.count.back()));
  }

 private:
  static void check(const std::int32_t* row, int width, std::int64_t keys, int level) {
    for (int e = 0; e < width; ++e) {
      const bool unused = e > 0 && row[e] == -1;
      const bool next = row[e] >= 0 && row[e] < keys && (e == 0 || (row[e - 1] >= 0 && row[e] > row[e - 1]));
      if (!unused && !next)
        throw ValueError(
            cat("[llsa_attention] a row of the level-", level, " indices has ", row[e], " at place ", e),
            cat("rows hold ascending indices below ", keys, ", at least one, then -1"));
    }
  }

  const Tensor& keep(const Tensor& x) {
    kept_.push_back(x);
    return kept_.back();
  }

  const A* log_weights(Context& ctx, int level) {
    const std::int64_t n = plan_.count[static_cast<std::size_t>(level)];
    A* const w = keep(ctx.empty({n}, dtype_of<A>::value)).template data<A>();
    const A full = std::log2(static_cast<A>(plan_.covered(level, 0)));  // all tokens but the last are full
    std::fill(w, w + n, full);
    w[n - 1] = std::log2(static_cast<A>(plan_.covered(level, n - 1)));
    return w;
  }

  const LlsaPlan& plan_;
  const std::vector<Tensor>& index_;
  std::vector<Level> levels_;
  std::vector<Tensor> kept_;
};

}  // namespace llsa::kernels::cpu

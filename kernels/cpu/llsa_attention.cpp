// LLSA attention on the CPU, forward and backward.
//
// Forward: every query block attends to its list of key ranges: the children of its picks on level 0, the
// candidates of its ancestors on levels 1..L_e, and all of level L. Neighbouring ranges are joined.
//
// Backward, query-major: dQ = dS K / sqrt(D) over the same lists. With many heads, dK and dV are collected on
// the way (see kWholeHeads). With few heads they are computed key-major in a second pass: the tokens under
// key j of level l + 1 collect from the queries that the transposed index lists for j, the coarsest level
// from all queries. Coarse gradients then go down the levels:
//
//     G_l[i] = dK^(l)[i] / c_l[i] + G_{l+1}[i / B],   dK[n] = dK^(0)[n] + G_1[n / B],   the same for V
#include <vector>

#include "kernels/backend/attention.h"
#include "kernels/cpu/attention_driver.h"

namespace llsa::kernels::cpu {
namespace {

// ---- what the queries of a block attend to --------------------------------------------------------------

/// Keys and values of all attended levels, in their dtype of accumulation and packed, with the logarithms of
/// their weights.
template <class A>
class Attended {
 public:
  Attended(Context& ctx, const LlsaState& state, bool backward) : plan_(state.plan), index_(state.index) {
    for (std::size_t l = 0; l < state.k.size(); ++l) {
      const int level = static_cast<int>(l);
      kept_.push_back(accumulable(ctx, state.k[l]));
      kept_.push_back(accumulable(ctx, state.v[l]));
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

    /// Appends the keys and values that query block i attends to; neighbouring key blocks are joined.
    void operator()(std::int64_t i, tile::Workspace<A>& ws) const {
      const std::int64_t block = plan_.block;
      std::int64_t node = i;
      for (int level = 0; level < plan_.levels && plan_.attends(level); ++level, node /= block) {
        const auto l = static_cast<std::size_t>(level);
        const std::int64_t n = plan_.count[l], n_above = plan_.count[l + 1];
        const int width = plan_.width[l];
        const std::int32_t* const row = picks_[l] + node * width;
        std::int32_t next = 0;  // the smallest index that may follow
        for (int e = 0; e < width;) {
          const std::int32_t first = row[e];
          if (first < next || first >= n_above) {
            check_unused(row, e, width, n_above, level + 1);
            break;
          }
          next = first + 1;
          while (++e < width && row[e] == next && next < n_above) ++next;
          const std::int64_t begin = first * block;
          ws.others.push_back(all_[l].part(begin, std::min(next * block, n) - begin, d_));
        }
      }
      if (plan_.attends(plan_.levels)) ws.others.push_back(all_.back());
    }

   private:
    const LlsaPlan& plan_;
    std::vector<tile::Others<A>> all_;        ///< by level
    std::vector<const std::int32_t*> picks_;  ///< [l - 1] = I_l
    std::int64_t d_ = 0;
  };

  Head operator()(std::int64_t head) const { return Head(*this, head); }

 private:
  /// Throws ValueError unless e > 0 and the row holds -1 from place e on.
  static void check_unused(const std::int32_t* row, int e, int width, std::int64_t keys, int level) {
    for (int at = e; at < width; ++at)
      if (e == 0 || row[at] != -1)
        throw ValueError(
            cat("[llsa_attend] a row of the level-", level, " indices has ", row[at], " at place ", at),
            cat("rows hold ascending indices below ", keys, ", at least one, then -1"));
  }

  const LlsaPlan& plan_;
  const std::vector<Tensor>& index_;
  std::vector<TokenSet<A>> levels_;
  std::vector<Tensor> kept_;
};

// ---- forward --------------------------------------------------------------------------------------------

void llsa_attention(Context& ctx, const LlsaState& state) {
  Profiler::add_work(flops_of(state).forward);
  visit_floating(state.q.dtype(), "llsa_attention", [&]<class T>() {
    using A = accumulator_t<T>;
    const Tensor q = accumulable(ctx, state.q);
    const Attended<A> attended(ctx, state, false);
    const Output out(ctx, state.o);
    attend_blocks<A>(ctx, Heads<A>(q), state.plan.block, state.plan.keys_per_query(), attended,
                     Heads<A>(out.tensor()), state.lse.data<A>());
    out.finish(ctx);
  });
}

// ---- backward -------------------------------------------------------------------------------------------

template <class A>
class Backward {
 public:
  /// d_o, q, o: in the dtype of accumulation.
  Backward(Context& ctx, const Tensor& d_o, const LlsaState& state, const Tensor& q, const Tensor& o, A* dq,
           A* dk, A* dv)
      : ctx_(ctx),
        plan_(state.plan),
        index_(state.index),
        queries_(
            backward_queries<A>(ctx, Heads<A>(q), Heads<A>(d_o), Heads<A>(o), state.lse.template data<A>())),
        attended_(ctx, state, true),
        d_(queries_.y.d),
        heads_(queries_.y.count()),
        dq_(dq) {
    for (int l = 0; l <= plan_.enriched; ++l) {
      dk_.push_back(l == 0 ? dk : buffer(l));
      dv_.push_back(l == 0 ? dv : buffer(l));
    }
  }

  void run() {
    if (heads_ >= kWholeHeads) {
      for (std::size_t l = 0; l < dk_.size(); ++l) {
        attended_.levels()[l].dy = dk_[l];
        attended_.levels()[l].dh = dv_[l];
      }
      ctx_.pool().parallel_for(heads_, [this](std::int64_t head) { whole_head(head); });
      return;
    }
    for_block_ranges(ctx_, heads_, blocks(), blocks_per_chunk(plan_.block * plan_.keys_per_query()),
                     [&](std::int64_t head, std::int64_t first, std::int64_t last) {
                       tile::Workspace<A> ws(ctx_, d_, true);
                       backward_blocks<A>(ws, queries_, plan_.block, attended_, dq_, head, first, last);
                     });
    if (plan_.attends(plan_.levels) || plan_.block % tile::kWidth<A> == 0) queries_.pack(ctx_, true);
    coarse_keys();
    ctx_.pool().parallel_for(heads_, [this](std::int64_t head) { lower_coarse(head); });
    listed_keys(0);
  }

 private:
  std::int64_t blocks() const { return plan_.count[1]; }

  A* buffer(int level) {
    kept_.push_back(
        ctx_.empty({heads_ * plan_.count[static_cast<std::size_t>(level)] * d_}, dtype_of<A>::value));
    return kept_.back().template data<A>();
  }

  A* dk(int level, std::int64_t head, std::int64_t token) const {
    return dk_[static_cast<std::size_t>(level)] +
           (head * plan_.count[static_cast<std::size_t>(level)] + token) * d_;
  }
  A* dv(int level, std::int64_t head, std::int64_t token) const {
    return dv_[static_cast<std::size_t>(level)] +
           (head * plan_.count[static_cast<std::size_t>(level)] + token) * d_;
  }

  // ---- whole heads ----

  void whole_head(std::int64_t head) {
    for (int l = 0; l <= plan_.enriched; ++l) {
      const std::int64_t size = plan_.count[static_cast<std::size_t>(l)] * d_;
      std::fill_n(dk(l, head, 0), size, A(0));
      std::fill_n(dv(l, head, 0), size, A(0));
    }
    tile::Workspace<A> ws(ctx_, d_, true);
    backward_blocks<A>(ws, queries_, plan_.block, attended_, dq_, head, 0, blocks());
    if (plan_.enriched == 0) return;
    lower_coarse(head);
    for (std::int64_t n = 0; n < plan_.tokens; ++n) {
      add_row(dk(1, head, n / plan_.block), dk(0, head, n));
      add_row(dv(1, head, n / plan_.block), dv(0, head, n));
    }
  }

  void add_row(const A* from, A* to) const {
#pragma omp simd
    for (std::int64_t j = 0; j < d_; ++j) to[j] += from[j];
  }

  /// Turns dK^(l), dV^(l) of the coarse levels into G_l, from the top down.
  void lower_coarse(std::int64_t head) {
    for (int l = plan_.enriched; l >= 1; --l) {
      for (std::int64_t i = 0; i < plan_.count[static_cast<std::size_t>(l)]; ++i) {
        const A covered = static_cast<A>(plan_.covered(l, i));
        A* const dk_row = dk(l, head, i);
        A* const dv_row = dv(l, head, i);
#pragma omp simd
        for (std::int64_t j = 0; j < d_; ++j) {
          dk_row[j] /= covered;
          dv_row[j] /= covered;
        }
        if (l == plan_.enriched) continue;
        add_row(dk(l + 1, head, i / plan_.block), dk_row);
        add_row(dv(l + 1, head, i / plan_.block), dv_row);
      }
    }
  }

  // ---- key-major ----

  /// Appends the fine queries below the level-l nodes that picked key j.
  void queries_of(const IndexTranspose& by_key, int l, std::int64_t head, std::int64_t j,
                  std::vector<tile::Others<A>>& out) const {
    const auto at = static_cast<std::size_t>(l);
    const std::int64_t nodes = plan_.count[at], keys = plan_.count[at];
    const std::int32_t* const offset = by_key.offset.template data<std::int32_t>() + head * (keys + 1);
    const std::int32_t* const node =
        by_key.query.template data<std::int32_t>() + head * nodes * plan_.width[at - 1];
    const std::int64_t span = plan_.covered(l, 0);
    const tile::Others<A> all = queries_.all(head);
    for (std::int32_t e = offset[j]; e < offset[j + 1];) {
      std::int32_t last = e + 1;
      while (last < offset[j + 1] && node[last] == node[last - 1] + 1) ++last;
      const std::int64_t begin = node[e] * span, end = std::min((node[last - 1] + 1) * span, plan_.tokens);
      out.push_back(all.part(begin, end - begin, d_));
      e = last;
    }
  }

  /// The transpose of I_l.
  IndexTranspose transposed(int l) const {
    const Tensor& table = index_[static_cast<std::size_t>(l) - 1];
    const std::int64_t keys = plan_.count[static_cast<std::size_t>(l)];
    IndexTranspose t = {
        ctx_.empty({table.size(0), table.size(1), keys + 1}, DType::i32),
        ctx_.empty({table.size(0), table.size(1), table.size(2) * table.size(3)}, DType::i32)};
    kLlsaStages.index_transpose(ctx_, table, keys, t.offset, t.query);
    return t;
  }

  /// Keys [begin, end) of a level against ws.others: adds to dk and dv.
  void keys(tile::Workspace<A>& ws, int level, std::int64_t head, std::int64_t begin,
            std::int64_t end) const {
    backward_own<A>(ws, attended_.level(level).all(head), d_, begin, end, dk(level, head, begin),
                    dv(level, head, begin));
  }

  void zero(int level, std::int64_t head, std::int64_t begin, std::int64_t end) const {
    std::fill_n(dk(level, head, begin), (end - begin) * d_, A(0));
    std::fill_n(dv(level, head, begin), (end - begin) * d_, A(0));
  }

  void coarse_keys() {
    const int top = plan_.levels;
    if (plan_.attends(top)) {
      const std::int64_t n = plan_.count.back(), step = tile::Workspace<A>::kOwn;
      for_block_ranges(ctx_, heads_, (n + step - 1) / step, 1,
                       [&](std::int64_t head, std::int64_t first, std::int64_t) {
                         tile::Workspace<A> ws(ctx_, d_, true);
                         ws.others = {queries_.all(head)};
                         const std::int64_t begin = first * step, end = std::min(begin + step, n);
                         zero(top, head, begin, end);
                         keys(ws, top, head, begin, end);
                       });
    }
    for (int l = std::min(top - 1, plan_.enriched); l >= 1; --l) listed_keys(l);
  }

  /// Keys of a level below the coarsest. The keys under one key of the level above share its list of queries.
  void listed_keys(int l) {
    const IndexTranspose by_key = transposed(l + 1);
    const std::int64_t n = plan_.count[static_cast<std::size_t>(l)];
    const std::int64_t above = plan_.count[static_cast<std::size_t>(l) + 1];
    const std::int64_t queries = (plan_.covered(l + 1, 0)) * plan_.width[static_cast<std::size_t>(l)];
    for_block_ranges(ctx_, heads_, above, blocks_per_chunk(plan_.block * queries),
                     [&](std::int64_t head, std::int64_t first, std::int64_t last) {
                       tile::Workspace<A> ws(ctx_, d_, true);
                       for (std::int64_t j = first; j < last; ++j) {
                         const std::int64_t begin = j * plan_.block, end = std::min(begin + plan_.block, n);
                         if (l == 0 && plan_.enriched > 0) {
                           for (std::int64_t t = begin; t < end; ++t) {
                             std::copy_n(dk(1, head, j), d_, dk(0, head, t));
                             std::copy_n(dv(1, head, j), d_, dv(0, head, t));
                           }
                         } else {
                           zero(l, head, begin, end);
                         }
                         ws.others.clear();
                         queries_of(by_key, l + 1, head, j, ws.others);
                         keys(ws, l, head, begin, end);
                       }
                     });
  }

  Context& ctx_;
  const LlsaPlan& plan_;
  const std::vector<Tensor>& index_;
  TokenSet<A> queries_;
  Attended<A> attended_;
  std::int64_t d_, heads_;
  A* dq_;
  std::vector<A*> dk_, dv_;  ///< by level
  std::vector<Tensor> kept_;
};

void llsa_attention_backward(Context& ctx, const Tensor& d_o, const LlsaState& state, const Tensor& dq,
                             const Tensor& dk, const Tensor& dv) {
  Profiler::add_work(flops_of(state).backward);
  visit_floating(state.q.dtype(), "llsa_attention_backward", [&]<class T>() {
    using A = accumulator_t<T>;
    const Tensor ga = accumulable(ctx, d_o), q = accumulable(ctx, state.q), o = accumulable(ctx, state.o);
    const Output dqa(ctx, dq), dka(ctx, dk), dva(ctx, dv);
    Backward<A>(ctx, ga, state, q, o, dqa.tensor().data<A>(), dka.tensor().data<A>(), dva.tensor().data<A>())
        .run();
    dqa.finish(ctx);
    dka.finish(ctx);
    dva.finish(ctx);
  });
}

}  // namespace

constinit const LlsaBackend kLlsa = {.llsa_attention = llsa_attention,
                                     .llsa_attention_backward = llsa_attention_backward};

}  // namespace llsa::kernels::cpu

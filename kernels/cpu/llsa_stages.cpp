// The stages of LLSA before attention, on the CPU, and the transpose of index tables.
//
// Pooling: sums in f32 (f64 for f64) go up the levels, and each mean is rounded once:
//
//     sum_l[i] = sum of the B sums of level l-1 under token i, in order
//     X^(l)[i] = round(sum_l[i] / c_l[i])
//
// Selection: queries that share candidates form a tile. Its scores lie [candidate][lane], so the K best of
// every lane are found at once and without branches: scores become integers of the same order (NaN lowest, -0
// equal to +0), and the K-th largest is built bit by bit, each bit decided by counting. Among equal scores
// the lower candidates win. Candidates ascend, so rows come out ascending.
//
// Transpose: a counting sort, one head at a time, queries in ascending order.
#include <vector>

#include "kernels/backend/attention.h"
#include "kernels/cpu/attention_driver.h"

namespace llsa::kernels::cpu {
namespace {

// ---- pool -----------------------------------------------------------------------------------------------

/// Sums and means of `count` rows, Columns at a time.
template <int Columns, class T, class A, class Below>
void pool_columns(const Below* x, std::int64_t stride, std::int64_t count, A covered, A* sum, T* mean) {
  A acc[Columns] = {};
  for (std::int64_t n = 0; n < count; ++n) {
#pragma omp simd
    for (int j = 0; j < Columns; ++j) acc[j] += static_cast<A>(x[n * stride + j]);
  }
#pragma omp simd
  for (int j = 0; j < Columns; ++j) mean[j] = static_cast<T>(acc[j] / covered);
  if (sum) {
#pragma omp simd
    for (int j = 0; j < Columns; ++j) sum[j] = acc[j];
  }
}

/// One level from the values below it: `below` holds tokens (level 1) or sums. Sums are kept only if another
/// level follows.
template <class T, class A, class Below>
void pool_level(Context& ctx, const LlsaPlan& plan, int level, const Heads<Below>& below, A* sums,
                const Heads<T>& out) {
  const std::int64_t d = out.d, block = plan.block;
  const std::int64_t per_chunk = std::max<std::int64_t>(1, 16384 / (block * std::max<std::int64_t>(d, 1)));
  for_block_ranges(
      ctx, out.count(), out.tokens, per_chunk, [&](std::int64_t head, std::int64_t first, std::int64_t last) {
        for (std::int64_t i = first; i < last; ++i) {
          const std::int64_t begin = i * block, count = std::min(block, below.tokens - begin);
          const Below* const x = below.row(head, begin);
          A* const sum = sums ? sums + (head * out.tokens + i) * d : nullptr;
          const A covered = static_cast<A>(plan.covered(level, i));
          T* const mean = out.row(head, i);
          std::int64_t j = 0;
          for (; j + 32 <= d; j += 32)
            pool_columns<32>(x + j, below.stride, count, covered, sum ? sum + j : nullptr, mean + j);
          for (; j < d; ++j)
            pool_columns<1>(x + j, below.stride, count, covered, sum ? sum + j : nullptr, mean + j);
        }
      });
}

void llsa_pyramid(Context& ctx, const Tensor& x, const LlsaPlan& plan, const std::vector<Tensor>& levels) {
  visit_floating(x.dtype(), "llsa_pyramid", [&]<class T>() {
    using A = accumulator_t<T>;
    Tensor below;  // sums of the level last done
    for (std::size_t l = 0; l < levels.size(); ++l) {
      const bool more = l + 1 < levels.size();
      const Tensor sums = more ? ctx.empty(levels[l].shape(), dtype_of<A>::value) : Tensor();
      A* const to = more ? sums.data<A>() : nullptr;
      const int level = static_cast<int>(l) + 1;
      if (l == 0) {
        pool_level<T, A>(ctx, plan, level, Heads<T>(x), to, Heads<T>(levels[l]));
      } else {
        pool_level<T, A>(ctx, plan, level, Heads<A>(below), to, Heads<T>(levels[l]));
      }
      below = sums;
    }
  });
}

// ---- select ---------------------------------------------------------------------------------------------

/// The K best of each lane of one tile.
template <class A>
class TopK {
 public:
  static constexpr int kL = tile::kWidth<A>;
  using I = tile::Bits<A>;
  using V = tile::Vector<A>;
  using VI = tile::Vector<I>;

  /// Scores of the rows in `groups` for `lanes` queries q (rows of d, at distance ldq).
  void score(const A* q, std::int64_t ldq, std::int64_t lanes, std::int64_t d,
             const std::vector<tile::RowRange<A>>& groups) {
    xt_.resize(static_cast<std::size_t>(kL * d));
    tile::pack_panel<A>(q, ldq, lanes, d, A(1), xt_.data());
    std::int64_t total = 0;
    for (const auto& g : groups) total += g.rows;
    keys_.resize(static_cast<std::size_t>(total * kL));
    I* keys = keys_.data();
    const A* const panel = xt_.data();
    for (const auto& g : groups) {
      tile::dot_panels<A>(g.data, g.stride, g.rows, &panel, 1, d,
                          [&](std::int64_t row, std::int64_t, auto& acc) {
                            constexpr int kGroup = std::extent_v<std::remove_reference_t<decltype(acc)>>;
                            LLSA_UNROLL for (int m = 0; m < kGroup; ++m)
                                tile::store<VI>(keys + (row + m) * kL, ordered(acc[m][0]));
                          });
      keys += g.rows * kL;
    }
    rows_ = total;
  }

  /// Makes row first + lane the best one of each of `lanes` queries.
  void put_first(std::int64_t first, std::int64_t lanes) {
    for (std::int64_t lane = 0; lane < lanes; ++lane)
      keys_[static_cast<std::size_t>((first + lane) * kL + lane)] = std::numeric_limits<I>::max();
  }

  /// Writes, for each of `lanes` queries, the candidates of its k best scores to out[lane * width ...].
  void pick(const std::vector<std::int32_t>& candidates, std::int64_t k, std::int64_t lanes,
            std::int32_t* out, std::int64_t width) {
    const VI limit = kth_largest(k);
    VI above = {};
    for (std::int64_t r = 0; r < rows_; ++r) above -= row(r) > limit;
    I room[kL], taken[kL] = {};  // how many equal to the limit are still to be taken; how many are taken
    for (int lane = 0; lane < kL; ++lane) room[lane] = static_cast<I>(k) - above[lane];
    for (std::int64_t r = 0; r < rows_; ++r) {
      const VI reaches = row(r) >= limit;
      for (int lane = 0; lane < lanes; ++lane) {
        if (!reaches[lane]) continue;
        if (row(r)[lane] == limit[lane] && room[lane]-- <= 0) continue;
        out[lane * width + taken[lane]++] = candidates[static_cast<std::size_t>(r)];
      }
    }
    for (int lane = 0; lane < lanes; ++lane)
      for (std::int64_t e = taken[lane]; e < width; ++e) out[lane * width + e] = -1;
  }

 private:
  VI row(std::int64_t r) const { return tile::load<VI>(keys_.data() + r * kL); }

  /// An integer that orders like the number: negative floats have their magnitude bits flipped.
  static VI ordered(V x) {
    constexpr int kSign = 8 * static_cast<int>(sizeof(I)) - 1;
    const V sum = x + A(0);  // -0 becomes +0
    const VI bits = reinterpret_cast<VI>(sum);
    const VI key = bits ^ ((bits >> kSign) & std::numeric_limits<I>::max());
    const VI is_number = sum == sum;
    return (key & is_number) | (~is_number & std::numeric_limits<I>::min());
  }

  /// The largest t per lane that at least k of its keys reach, 1 <= k <= rows.
  VI kth_largest(std::int64_t k) const {
    constexpr int kBits = 8 * static_cast<int>(sizeof(I));
    VI best = VI{} + std::numeric_limits<I>::min();
    for (int bit = kBits - 1; bit >= 0; --bit) {
      // Setting a bit of an offset-binary number; for the sign bit that is flipping it.
      const VI trial = best ^ static_cast<I>(static_cast<std::make_unsigned_t<I>>(1) << bit);
      VI reached = {};
      for (std::int64_t r = 0; r < rows_; ++r) reached -= row(r) >= trial;
      const VI enough = reached >= static_cast<I>(k);
      best = (trial & enough) | (best & ~enough);
      if (all_equal(reached, static_cast<I>(k))) break;
    }
    return best;
  }

  static bool all_equal(VI x, I value) {
    bool same = true;
    for (int lane = 0; lane < kL; ++lane) same &= x[lane] == value;
    return same;
  }

  std::vector<A> xt_;
  std::vector<I> keys_;
  std::int64_t rows_ = 0;
};

/// One level. `parents` is I_{l+1}, or null at the coarsest level, where all keys are candidates of all
/// queries.
template <class A>
void select_level(Context& ctx, const LlsaPlan& plan, int level, const Heads<A>& q, const Heads<A>& k,
                  const std::int32_t* parents, std::int32_t* out) {
  const auto at = static_cast<std::size_t>(level);
  const std::int64_t n = plan.count[at], block = plan.block, width = plan.width[at - 1];
  // Queries that share candidates: the children of one parent; at the top simply a tile of them.
  const std::int64_t group = parents ? block : TopK<A>::kL;
  const std::int64_t groups = (n + group - 1) / group;
  const std::int64_t parent_width = parents ? plan.width[at] : 0;
  const std::int64_t candidates_max = parents ? parent_width * block : n;

  for_block_ranges(
      ctx, q.count(), groups, blocks_per_chunk(group * candidates_max),
      [&](std::int64_t head, std::int64_t first, std::int64_t last) {
        TopK<A> top;
        std::vector<tile::RowRange<A>> ranges;
        std::vector<std::int32_t> candidates;
        const auto add = [&](std::int64_t begin, std::int64_t end) {
          ranges.push_back({k.row(head, begin), k.stride, end - begin, 0});
          for (std::int64_t c = begin; c < end; ++c) candidates.push_back(static_cast<std::int32_t>(c));
        };
        for (std::int64_t g = first; g < last; ++g) {
          if (parents || g == first) {
            ranges.clear();
            candidates.clear();
            if (parents) {
              const std::int32_t* const picks = parents + (head * groups + g) * parent_width;
              for (std::int64_t e = 0; e < parent_width && picks[e] >= 0; ++e)
                add(picks[e] * block, std::min((picks[e] + 1) * block, n));
            } else {
              add(0, n);
            }
          }
          const std::int64_t best = std::min(static_cast<std::int64_t>(plan.topk[at - 1]),
                                             static_cast<std::int64_t>(candidates.size()));
          const std::int64_t end = std::min((g + 1) * group, n);
          for (std::int64_t i = g * group; i < end; i += TopK<A>::kL) {
            const std::int64_t lanes = std::min<std::int64_t>(TopK<A>::kL, end - i);
            top.score(q.row(head, i), q.stride, lanes, q.d, ranges);
            if (plan.own) {  // siblings: their own nodes are neighbours among the candidates, too
              const auto own = std::lower_bound(candidates.begin(), candidates.end(), i);
              top.put_first(own - candidates.begin(), lanes);
            }
            top.pick(candidates, best, lanes, out + (head * n + i) * width, width);
          }
        }
      });
}

void llsa_select(Context& ctx, const std::vector<Tensor>& q, const std::vector<Tensor>& k, LlsaState& state) {
  const LlsaPlan& plan = state.plan;
  const std::vector<Tensor>& index = state.index;
  Profiler::add_work(llsa_flops(plan, q[0].size(0) * q[0].size(1), q[0].size(3)).selection);
  visit_floating(q[0].dtype(), "llsa_select", [&]<class T>() {
    using A = accumulator_t<T>;
    for (int level = plan.levels; level >= 1; --level) {
      const auto at = static_cast<std::size_t>(level - 1);
      const Tensor ql = accumulable(ctx, q[at]), kl = accumulable(ctx, k[at]);
      const std::int32_t* const parents = level < plan.levels ? index[at + 1].data<std::int32_t>() : nullptr;
      select_level<A>(ctx, plan, level, Heads<A>(ql), Heads<A>(kl), parents, index[at].data<std::int32_t>());
    }
  });
}

// ---- transpose ------------------------------------------------------------------------------------------

void index_transpose(Context& ctx, const Tensor& index, std::int64_t keys, const Tensor& offset,
                     const Tensor& query) {
  const std::int64_t heads = index.size(0) * index.size(1);
  const std::int64_t rows = index.size(2), width = index.size(3);
  const std::int32_t* const table = index.data<std::int32_t>();
  ctx.pool().parallel_for(heads, [&](std::int64_t head) {
    const std::int32_t* const entries = table + head * rows * width;
    std::int32_t* const at = offset.data<std::int32_t>() + head * (keys + 1);
    std::int32_t* const out = query.data<std::int32_t>() + head * rows * width;

    // at[j + 1] counts key j; after the running sum at[j] is where key j's queries begin.
    for (std::int64_t j = 0; j <= keys; ++j) at[j] = 0;
    for (std::int64_t e = 0; e < rows * width; ++e) {
      const std::int32_t j = entries[e];
      if (j == -1) continue;
      if (j < 0 || j >= keys)
        throw ValueError(cat("[index_transpose] entry ", j, " in a table over ", keys, " keys"));
      ++at[j + 1];
    }
    for (std::int64_t j = 0; j < keys; ++j) at[j + 1] += at[j];
    // Filling moves each beginning to its end, which is the beginning of the next: shift back afterwards.
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t e = i * width; e < (i + 1) * width; ++e)
        if (entries[e] >= 0) out[at[entries[e]]++] = static_cast<std::int32_t>(i);
    for (std::int64_t j = keys; j > 0; --j) at[j] = at[j - 1];
    at[0] = 0;
  });
}

}  // namespace

constinit const LlsaStagesBackend kLlsaStages = {
    .llsa_pyramid = llsa_pyramid, .llsa_select = llsa_select, .index_transpose = index_transpose};

}  // namespace llsa::kernels::cpu

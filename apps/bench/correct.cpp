#include "apps/bench/correct.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "apps/bench/bench.h"
#include "core/function_ref.h"
#include "kernels/copy.h"

namespace llsa::apps {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Bounds {
  double o, gradients, lse;
};
Bounds bounds_of(DType dtype) {
  return dtype == DType::bf16 ? Bounds{5e-3, 1e-2, 1e-3} : Bounds{1e-5, 3e-5, 1e-4};
}
constexpr double kMostGap = 1e-3;

AttentionInputs on_host(Context& ctx, const AttentionInputs& in, Context& host) {
  const auto move = [&](const Tensor& x) { return kernels::transfer(ctx, x, host); };
  return {move(in.q), move(in.k), move(in.v), move(in.d_o)};
}

/// The same numbers in the wider dtype.
AttentionInputs widened(Context& host, const AttentionInputs& in) {
  const DType wide = in.q.dtype() == DType::bf16 ? DType::f32 : DType::f64;
  const auto cast = [&](const Tensor& x) { return kernels::cast(host, x, wide); };
  return {cast(in.q), cast(in.k), cast(in.v), cast(in.d_o)};
}

/// What is compared, each as the error of an outcome against the exact one.
struct Distance {
  double o = 0, lse = 0, dq = 0, dk = 0, dv = 0;
};
Distance distance(Context& ctx, const AttentionOutcome& found, Context& host,
                  const AttentionOutcome& expected) {
  const auto l2 = [&](const Tensor& a, const Tensor& b) {
    return a.defined() ? relative_l2(ctx, a, host, b) : 0;  // a variant without a backward pass
  };
  return {l2(found.result.o, expected.result.o),
          largest_difference(ctx, found.result.lse, host, expected.result.lse),
          l2(found.grads.dq, expected.grads.dq), l2(found.grads.dk, expected.grads.dk),
          l2(found.grads.dv, expected.grads.dv)};
}

/// Throws beyond the bounds, which are twice what a plain implementation in the same dtype errs by where that
/// is more; raises `errors`.
void judge(const std::string& what, const Distance& found, const Distance& plain, const Bounds& bounds,
           AttentionErrors& errors) {
  require_correct("o of " + what, found.o, std::max(bounds.o, 2 * plain.o));
  require_correct("lse of " + what, found.lse, std::max(bounds.lse, 2 * plain.lse));
  require_correct("dq of " + what, found.dq, std::max(bounds.gradients, 2 * plain.dq));
  require_correct("dk of " + what, found.dk, std::max(bounds.gradients, 2 * plain.dk));
  require_correct("dv of " + what, found.dv, std::max(bounds.gradients, 2 * plain.dv));
  errors.o = std::max(errors.o, found.o);
  errors.lse = std::max(errors.lse, found.lse);
  errors.gradients = std::max({errors.gradients, found.dq, found.dk, found.dv});
}

kernels::LlsaIndices moved(Context& from, const kernels::LlsaIndices& indices, Context& to) {
  kernels::LlsaIndices result;
  for (const Tensor& level : indices.level) result.level.push_back(kernels::transfer(from, level, to));
  return result;
}

std::vector<Tensor> moved(Context& from, const std::vector<Tensor>& tensors, Context& to) {
  std::vector<Tensor> result;
  for (const Tensor& x : tensors) result.push_back(kernels::transfer(from, x, to));
  return result;
}

/// Candidates of a row: all tokens of level L, below it the children of the picks of the parent.
std::vector<std::int64_t> candidates_of(const LlsaPlan& plan, int level, const std::int32_t* above) {
  std::vector<std::int64_t> all;
  const std::int64_t n = plan.count[static_cast<std::size_t>(level)];
  if (level == plan.levels) {
    for (std::int64_t j = 0; j < n; ++j) all.push_back(j);
    return all;
  }
  for (int s = 0; s < plan.width[static_cast<std::size_t>(level)] && above[s] >= 0; ++s)
    for (std::int64_t j = std::int64_t{above[s]} * plan.block;
         j < std::min<std::int64_t>((std::int64_t{above[s]} + 1) * plan.block, n); ++j)
      all.push_back(j);
  return all;
}

/// Gap of one row in units of scores; raises `largest` to its largest |score|.
double row_gap(const std::vector<std::int64_t>& candidates, const std::int32_t* picks, std::int64_t wanted,
               const float* query, const float* keys, std::int64_t d, double& largest) {
  for (std::int64_t s = 0; s < wanted; ++s)
    if (picks[s] < 0 || (s > 0 && picks[s] <= picks[s - 1])) return kInfinity;
  double least_picked = kInfinity, most_left = -kInfinity;
  std::int64_t found = 0;
  for (const std::int64_t j : candidates) {
    double score = 0;
    for (std::int64_t e = 0; e < d; ++e)
      score += static_cast<double>(query[e]) * static_cast<double>(keys[j * d + e]);
    largest = std::max(largest, std::abs(score));
    if (found < wanted && picks[found] == j) {
      ++found;
      least_picked = std::min(least_picked, score);
    } else {
      most_left = std::max(most_left, score);
    }
  }
  if (found != wanted) return kInfinity;  // a pick that is no candidate
  return most_left == -kInfinity ? 0 : most_left - least_picked;
}

using Results = std::vector<std::pair<std::string, Tensor>>;

Results results_of(const AttentionOutcome& outcome) {
  Results all = {{"o", outcome.result.o}, {"lse", outcome.result.lse}};
  if (outcome.grads.dq.defined()) {
    all.insert(all.end(), {{"dq", outcome.grads.dq}, {"dk", outcome.grads.dk}, {"dv", outcome.grads.dv}});
  }
  for (std::size_t l = 0; l < outcome.indices.level.size(); ++l)
    all.emplace_back(cat("indices of level ", l + 1), outcome.indices.level[l]);
  return all;
}

/// What no result holds in all of its elements.
double spoiling(DType dtype) {
  if (is_floating(dtype)) return std::numeric_limits<double>::quiet_NaN();
  return dtype == DType::u8 ? 85 : -2;
}

/// Throws Error where the results of doing it again differ in a bit from the first ones. What was there
/// before in memory that results may get is overwritten, so that an element that nothing is written to is
/// found.
void require_repeatable(const std::string& what, Context& ctx, const Results& first, int repetitions,
                        FunctionRef<Results()> again) {
  for (int r = 1; r <= repetitions; ++r) {
    {
      Results spoilt;  // together, so that each has memory of its own
      for (const auto& [name, tensor] : first) {
        spoilt.emplace_back(name, ctx.empty_like(tensor));
        kernels::fill(ctx, spoilt.back().second, spoiling(tensor.dtype()));
      }
    }
    const Results found = again();
    for (std::size_t i = 0; i < first.size(); ++i)
      require_same_bits(cat(first[i].first, " of ", what, ", repetition ", r, " of ", repetitions, ","), ctx,
                        first[i].second, found[i].second);
  }
}

/// "4096 tokens, B = 16, K = 8, L = 2, randn".
std::string name_of(const AttentionProblem& p, const LlsaPlan& plan, InputKind kind) {
  return cat(p.tokens, " tokens, B = ", plan.block, ", K = ", p.options.topk.front(), ", L = ", plan.levels,
             ", ", name_of(kind));
}

}  // namespace

std::vector<AttentionProblem> attention_problems() {
  const auto problem = [](std::int64_t tokens, int block, int topk, int levels) {
    AttentionProblem p{tokens, {}};
    p.options.block = block;
    p.options.topk = {topk};
    p.options.levels = levels;
    return p;
  };
  return {problem(1009, 16, 8, 1), problem(4096, 16, 8, 2), problem(4096, 16, 32, 1),
          problem(4096, 64, 8, 1), problem(5000, 32, 8, 2), problem(16384, 16, 8, 2)};
}

double selection_gap(Context& host, const LlsaPlan& plan, const kernels::LlsaIndices& indices,
                     const std::vector<Tensor>& pooled_q, const std::vector<Tensor>& pooled_k) {
  double worst = -kInfinity;
  std::vector<std::int32_t> above;
  for (int l = plan.levels; l >= 1; --l) {
    const auto at = static_cast<std::size_t>(l);
    const Tensor& table = indices.level[at - 1];
    const auto picks = kernels::to_vector<std::int32_t>(host, table);
    const auto q = kernels::to_vector<float>(host, pooled_q[at - 1]),
               k = kernels::to_vector<float>(host, pooled_k[at - 1]);
    const std::int64_t heads = table.size(0) * table.size(1), n = plan.count[at], width = plan.width[at - 1];
    const std::int64_t d = pooled_q[at - 1].size(3);
    double gap = -kInfinity, largest = 0;
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t i = 0; i < n; ++i) {
        const std::int32_t* const parent =
            l == plan.levels ? nullptr
                             : above.data() + (h * plan.count[at + 1] + i / plan.block) * plan.width[at];
        const auto candidates = candidates_of(plan, l, parent);
        const std::int64_t wanted = std::min({static_cast<std::int64_t>(plan.topk[at - 1]),
                                              static_cast<std::int64_t>(candidates.size()), width});
        const std::int32_t* const row = picks.data() + (h * n + i) * width;
        for (std::int64_t s = wanted; s < width; ++s)
          if (row[s] != -1) return kInfinity;
        gap = std::max(gap, row_gap(candidates, row, wanted, q.data() + (h * n + i) * d, k.data() + h * n * d,
                                    d, largest));
      }
    }
    above = picks;
    worst = std::max(worst, largest > 0 ? gap / largest : gap);
  }
  return worst;
}

AttentionErrors check_attention(Context& ctx, DType dtype, const std::vector<FullVariant>& variants,
                                std::int64_t head_dim, const std::vector<AttentionProblem>& problems,
                                int repetitions) {
  const Bounds bounds = bounds_of(dtype);
  Context host(ctx.pool().threads());
  AttentionErrors errors;
  errors.selection = -kInfinity;
  for (const AttentionProblem& p : problems) {
    const auto plan = kernels::llsa_plan(p.tokens, p.options);
    for (const InputKind kind : {InputKind::randn, InputKind::structured}) {
      const std::string name = "LLSA, " + name_of(p, plan, kind);
      const AttentionInputs in = make_inputs(ctx, kind, 1, 2, p.tokens, head_dim, dtype, 11);
      const AttentionInputs narrow = on_host(ctx, in, host), wide = widened(host, narrow);
      const AttentionOutcome found = run_llsa(ctx, in, p.options, true);
      const kernels::LlsaIndices on_the_host = moved(ctx, found.indices, host);
      const double gap =
          selection_gap(host, plan, on_the_host, moved(ctx, kernels::llsa_pyramid(ctx, in.q, plan), host),
                        moved(ctx, kernels::llsa_pyramid(ctx, in.k, plan), host));
      require_correct("selection of " + name, gap, kMostGap);
      errors.selection = std::max(errors.selection, gap);
      const AttentionOutcome exact = run_llsa(host, wide, on_the_host, plan, true);
      Distance plain;
      if (dtype == DType::bf16)
        plain = distance(host, run_llsa(host, narrow, on_the_host, plan, true), host, exact);
      judge(name, distance(ctx, found, host, exact), plain, bounds, errors);
      require_repeatable(name, ctx, results_of(found), repetitions,
                         [&] { return results_of(run_llsa(ctx, in, p.options, true)); });
    }
  }
  const std::int64_t tokens = std::min<std::int64_t>(problems.front().tokens, 1024);
  const AttentionInputs in = make_inputs(ctx, InputKind::randn, 1, 2, tokens, head_dim, dtype, 12);
  const AttentionInputs wide = widened(host, on_host(ctx, in, host));
  const AttentionOutcome full =
      run_full(host, full_variants(host, wide.q.dtype(), head_dim).front(), wide, true);
  for (const FullVariant& variant : variants) {
    const std::string name = cat("full attention (", variant.name, ") of ", tokens, " tokens");
    const auto run = [&] { return run_full(ctx, variant, in, static_cast<bool>(variant.backward)); };
    const AttentionOutcome found = run();
    judge(name, distance(ctx, found, host, full), {}, bounds, errors);
    require_repeatable(name, ctx, results_of(found), repetitions, [&] { return results_of(run()); });
  }
  LlsaOptions all;
  all.topk = {static_cast<int>(tokens)};
  all.levels = 1;
  all.enriched = 0;
  const AttentionOutcome found = run_llsa(ctx, in, all, true);
  judge(cat("LLSA of ", tokens, " tokens with all blocks selected, which is full attention"),
        distance(ctx, found, host, full), {}, bounds, errors);
  return errors;
}

}  // namespace llsa::apps

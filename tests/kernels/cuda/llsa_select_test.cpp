// Selection in bf16, on tensor cores where they fit: the CPU's tables on exact scores, a score gap otherwise.
#include <doctest/doctest.h>

#include <algorithm>

#include "core/philox.h"
#include "kernels/backend.h"
#include "kernels/cuda/llsa/llsa.h"
#include "tests/kernels/cuda/contexts.h"
#include "tests/kernels/cuda/orders.h"

using namespace llsa;
using namespace llsa::kernels;
using namespace llsa::test;

namespace {

const Device kGpu{DeviceType::cuda, 0};

LlsaPlan plan_of(std::int64_t n, int block, std::vector<int> topk, int levels) {
  LlsaOptions options;
  options.block = block;
  options.topk = std::move(topk);
  options.levels = levels;
  return llsa_plan(n, options);
}

/// Pooled queries and keys of all levels, [l - 1], in bf16: the selection's input without fine tokens.
struct Pooled {
  LlsaPlan plan;
  std::int64_t heads, d;
  std::vector<std::vector<float>> q, k;

  /// Normal values, or integers from -3 to 3, of which scores are exact and often the same.
  Pooled(const LlsaPlan& of, std::int64_t h, std::int64_t width, std::uint64_t seed, bool integers)
      : plan(of), heads(h), d(width) {
    for (std::size_t l = 0; l < static_cast<std::size_t>(plan.levels); ++l)
      for (auto* x : {&q, &k}) {
        x->emplace_back();
        const Philox random{seed, 2 * l + (x == &q ? 0 : 1)};
        for (std::int64_t i = 0; i < heads * plan.count[l + 1] * d; ++i) {
          const float value = random.normal(static_cast<std::uint64_t>(i));
          x->back().push_back(integers ? std::clamp(std::round(value), -3.0f, 3.0f)
                                       : static_cast<float>(bf16(value)));
        }
      }
  }

  Shape shape(std::size_t l, std::int64_t columns) const { return {1, heads, plan.count[l + 1], columns}; }

  /// The index tables of all levels, one after the other. The words of the levels below the coarsest must be
  /// those that mark_words makes of the tables.
  std::vector<std::int32_t> select(Context& ctx) const {
    std::vector<Tensor> ql, kl;
    LlsaState state;
    state.plan = plan;
    for (std::size_t l = 0; l < q.size(); ++l) {
      ql.push_back(cast(ctx, from_vector(ctx, q[l], shape(l, d)), DType::bf16));
      kl.push_back(cast(ctx, from_vector(ctx, k[l], shape(l, d)), DType::bf16));
      state.index.push_back(ctx.empty(shape(l, plan.width[l]), DType::i32));
    }
    backend(ctx).llsa_stages.llsa_select(ctx, ql, kl, state);
    if (ctx.device().is_cuda()) check_words(ctx, state.index, state.words);
    std::vector<std::int32_t> all;
    for (const Tensor& table : state.index) {
      const auto entries = to_vector<std::int32_t>(ctx, table);
      all.insert(all.end(), entries.begin(), entries.end());
    }
    return all;
  }

  void check_words(Context& ctx, const std::vector<Tensor>& index, const std::vector<Tensor>& words) const {
    const std::vector<Tensor> expected = kernels::cuda::empty_words(ctx, plan, index);
    REQUIRE(words.size() == expected.size());
    for (std::size_t l = 0; l < words.size(); ++l) {
      kernels::cuda::mark_words(ctx, plan, index[l], index[l + 1], expected[l]);
      REQUIRE(to_vector<std::uint8_t>(ctx, words[l]) == to_vector<std::uint8_t>(ctx, expected[l]));
    }
  }
};

/// Every row: ascending, of the right length, out of its candidates, and no candidate left out has a score
/// above that of a picked one by more than the tolerance.
void check_by_score_gap(const Pooled& p, const std::vector<std::int32_t>& tables, double tolerance) {
  std::vector<std::size_t> begin = {0};  // of the tables
  for (std::size_t l = 0; l < p.q.size(); ++l)
    begin.push_back(begin.back() + static_cast<std::size_t>(p.shape(l, p.plan.width[l]).numel()));
  REQUIRE(tables.size() == begin.back());
  const auto row_of = [&](std::size_t l, std::int64_t head, std::int64_t i) {
    const auto width = static_cast<std::size_t>(p.plan.width[l]);
    const std::int32_t* const row =
        tables.data() + begin[l] + static_cast<std::size_t>(head * p.plan.count[l + 1] + i) * width;
    std::vector<std::int32_t> picks(row, row + width);
    while (!picks.empty() && picks.back() == -1) picks.pop_back();
    return picks;
  };
  for (std::size_t l = p.q.size(); l-- > 0;)
    for (std::int64_t head = 0; head < p.heads; ++head)
      for (std::int64_t i = 0; i < p.plan.count[l + 1]; ++i) {
        std::vector<std::int32_t> candidates;
        const auto n = static_cast<std::int32_t>(p.plan.count[l + 1]);
        if (l + 1 == p.q.size()) {
          for (std::int32_t j = 0; j < n; ++j) candidates.push_back(j);
        } else {
          for (std::int32_t parent : row_of(l + 1, head, i / p.plan.block))
            for (std::int32_t j = parent * p.plan.block; j < std::min((parent + 1) * p.plan.block, n); ++j)
              candidates.push_back(j);
        }
        const std::vector<std::int32_t> picks = row_of(l, head, i);
        REQUIRE(std::adjacent_find(picks.begin(), picks.end(), std::greater_equal<>()) == picks.end());
        REQUIRE(picks.size() == std::min(candidates.size(), static_cast<std::size_t>(p.plan.topk[l])));
        double worst_picked = std::numeric_limits<double>::infinity(), best_left = -worst_picked;
        std::size_t found = 0;
        for (std::int32_t j : candidates) {
          double score = 0;
          for (std::int64_t c = 0; c < p.d; ++c)
            score += static_cast<double>(p.q[l][static_cast<std::size_t>((head * n + i) * p.d + c)]) *
                     static_cast<double>(p.k[l][static_cast<std::size_t>((head * n + j) * p.d + c)]);
          const bool picked = std::binary_search(picks.begin(), picks.end(), j);
          found += picked;
          if (picked)
            worst_picked = std::min(worst_picked, score);
          else
            best_left = std::max(best_left, score);
        }
        REQUIRE(found == picks.size());
        if (found < candidates.size()) REQUIRE(worst_picked >= best_left - tolerance);
      }
}

}  // namespace

TEST_SUITE_BEGIN("kernels/cuda/llsa_select");

TEST_CASE("selection in bf16: the CPU's tables on exact scores with ties, B, K, L, D, ragged N, own nodes") {
  if (!cuda_device()) return;
  Context cpu, gpu(kGpu);
  std::uint64_t seed = 0;
  for (int block : {16, 32, 64})
    for (int topk : {1, 3, 8, 20, 64})
      for (std::int64_t n : {2, 17, 300, 1030, 5003})
        for (int levels = 1; levels <= 4; ++levels) {
          std::int64_t count = n;
          for (int l = 1; l < levels; ++l) count = (count + block - 1) / block;
          if (count == 1) continue;  // no such level
          CAPTURE(block);
          CAPTURE(topk);
          CAPTURE(n);
          CAPTURE(levels);
          LlsaPlan plan = plan_of(n, block, {topk}, levels);
          plan.own = seed % 2 == 1;
          CAPTURE(plan.own);
          const Pooled p(plan, 1 + n % 2, 32 << seed % 3, seed, true);
          ++seed;
          CHECK(p.select(gpu) == p.select(cpu));
        }
}

TEST_CASE("selection in bf16: K per level, block sizes of one level, more picks than the fast kernels keep") {
  if (!cuda_device()) return;
  Context cpu, gpu(kGpu);
  for (const LlsaPlan& plan :
       {plan_of(5000, 16, {5, 17, 3}, 3), plan_of(20000, 16, {8, 40, 2}, 3), plan_of(9000, 48, {7, 2}, 2),
        plan_of(3000, 5, {8}, 1), plan_of(3000, 5, {8, 8}, 2), plan_of(5000, 16, {100, 90}, 2),
        plan_of(70000, 64, {3, 20}, 2)}) {
    CAPTURE(plan.tokens);
    const Pooled p(plan, 1, 64, 3, true);
    CHECK(p.select(gpu) == p.select(cpu));
  }
  const Pooled narrow(plan_of(3000, 16, {8, 8}, 2), 1, 40, 3, true);  // D = 40: the plain kernel
  CHECK(narrow.select(gpu) == narrow.select(cpu));
}

TEST_CASE("selection in bf16: no candidate left out has a better score, random inputs") {
  if (!cuda_device()) return;
  Context gpu(kGpu);
  std::uint64_t seed = 100;
  for (int block : {16, 32, 64})
    for (int topk : {1, 8, 20})
      for (std::int64_t d : {32, 64, 128}) {
        const Pooled p(plan_of(block == 64 ? 9000 : 3001, block, {topk}, 2), 2, d, ++seed, false);
        check_by_score_gap(p, p.select(gpu), 1e-5 * static_cast<double>(d));
      }
}

TEST_CASE("selection in bf16: rows of thousands of candidates") {
  if (!cuda_device()) return;
  Context cpu, gpu(kGpu);
  const Pooled few(plan_of(2 * 2085, 2, {8}, 1), 1, 64, 41, true);
  CHECK(few.select(gpu) == few.select(cpu));
  const Pooled deep(plan_of(2 * 2085, 2, {5}, 1), 1, 128, 42, true);
  CHECK(deep.select(gpu) == deep.select(cpu));
  const Pooled many(plan_of(2 * 2085, 2, {20}, 1), 1, 32, 43, false);
  check_by_score_gap(many, many.select(gpu), 1e-3);
  // 32 parents with 64 children each, of which the last one has fewer.
  const Pooled children(plan_of(64 * (33 * 64 + 5), 64, {9, 32}, 2), 1, 32, 44, true);
  CHECK(children.select(gpu) == children.select(cpu));
  // Better and better scores: every chunk displaces what was kept; then the first are best.
  Pooled rising(plan_of(2 * 2100, 2, {16}, 1), 1, 32, 45, true);
  for (std::size_t i = 0; i < rising.k[0].size(); ++i) {
    rising.q[0][i] = i % 32 == 0 ? (i / 32 % 2 == 0 ? 1.0f : -1.0f) : 0.0f;
    rising.k[0][i] = i % 32 == 0 ? static_cast<float>(bf16(static_cast<float>(i / 32 / 8))) : 0.0f;
  }
  CHECK(rising.select(gpu) == rising.select(cpu));
}

TEST_CASE("selection in bf16: signed zeros are equal, infinities and NaN as on the CPU") {
  if (!cuda_device()) return;
  Context cpu, gpu(kGpu);
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (int topk : {5, 8, 20}) {
    CAPTURE(topk);
    Pooled p(plan_of(3100, 16, {topk}, 2), 2, 32, 51, true);
    // Scores +0 and -0 for the queries of one head; ties go to the lower index.
    for (std::size_t l = 0; l < 2; ++l) {
      const std::size_t half = p.k[l].size() / 2;
      std::fill(p.q[l].begin() + static_cast<std::ptrdiff_t>(half), p.q[l].end(), 1.0f);
      for (std::size_t i = half; i < p.k[l].size(); ++i) p.k[l][i] = i / 32 % 3 == 0 ? -0.0f : 0.0f;
      for (std::size_t i = 0; i < half; i += 7 * 32) p.k[l][i + 3] = i % 2 == 0 ? nan : 1.0f;
      for (std::size_t i = 32; i < half; i += 5 * 32) p.k[l][i + 9] = i % 64 == 0 ? inf : -inf;
    }
    CHECK(p.select(gpu) == p.select(cpu));
    // Hardly any numbers at all.
    for (std::size_t l = 0; l < 2; ++l) {
      std::fill(p.k[l].begin(), p.k[l].end(), nan);
      std::fill(p.k[l].begin() + 32 * 9, p.k[l].begin() + 32 * 10, -1.0f);
    }
    CHECK(p.select(gpu) == p.select(cpu));
  }
}

TEST_CASE("selection in bf16: equal tables in all lane and block orders") {
  if (!cuda_device()) return;
  for (const LlsaPlan& plan : {plan_of(1501, 16, {8}, 2), plan_of(1501, 16, {20, 30}, 2)}) {
    const Pooled p(plan, 2, 64, 61, false);
    for_all_orders([&] {
      Context gpu(kGpu);
      return p.select(gpu);
    });
  }
  const Pooled wide(plan_of(2 * 2100, 2, {8}, 1), 1, 32, 62, false);
  for_all_orders([&] {
    Context gpu(kGpu);
    return wide.select(gpu);
  });
}

TEST_SUITE_END();

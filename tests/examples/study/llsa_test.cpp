// The engine's LLSA against the readable one of examples/study/llsa.cpp, which is run here as well.
#define STUDY_WITHOUT_MAIN
#include "examples/study/llsa.cpp"  // NOLINT(bugprone-suspicious-include)

#include <doctest/doctest.h>

#include <sstream>

#include "kernels/copy.h"
#include "kernels/llsa_stages.h"
#include "tests/support/llsa_oracle.h"

using namespace llsa;
using namespace llsa::kernels;

namespace {

using Rows = llsa_study::Matrix;

/// Random numbers, the same in f32 and f64.
Rows random_rows(const llsa_study::Sizes& s, std::uint64_t seed) {
  const test::Matrix values = test::random_matrix(s.n * s.d, seed);
  Rows rows;
  for (int t = 0; t < s.n; ++t) rows.emplace_back(values.begin() + t * s.d, values.begin() + (t + 1) * s.d);
  return rows;
}

test::Matrix flat(const Rows& rows) {
  test::Matrix values;
  for (const auto& row : rows) values.insert(values.end(), row.begin(), row.end());
  return values;
}

/// A table as the engine keeps it: rows of one width, filled up with -1.
std::vector<std::int32_t> padded(const llsa_study::Table& table, int width) {
  std::vector<std::int32_t> values;
  for (const auto& row : table) {
    values.insert(values.end(), row.begin(), row.end());
    values.resize(values.size() + static_cast<std::size_t>(width) - row.size(), -1);
  }
  return values;
}

}  // namespace

TEST_SUITE_BEGIN("examples/study/llsa");

TEST_CASE("its own checks pass") {
  std::ostringstream out;
  CHECK(llsa_study::check(out));
  CAPTURE(out.str());
  CHECK(out.str().find("FAILED") == std::string::npos);
}

TEST_CASE("the engine picks the same blocks and computes the same outputs and gradients") {
  Context ctx;
  std::uint64_t seed = 0;
  // N, D, B, K, L, L_e, re-weighting
  for (const llsa_study::Sizes& s : std::vector<llsa_study::Sizes>{{1, 3, 16, {8}, 0, 0, true},
                                                                   {40, 8, 16, {8}, 0, 0, true},
                                                                   {97, 5, 7, {3}, 1, 1, true},
                                                                   {97, 5, 7, {3}, 1, 0, true},
                                                                   {131, 7, 3, {2}, 4, 4, true},
                                                                   {131, 7, 3, {2}, 4, 2, false},
                                                                   {97, 4, 2, {5, 4, 3, 2, 1}, 5, 5, true},
                                                                   {97, 4, 2, {1, 2, 3, 4, 5}, 5, 3, true},
                                                                   {257, 16, 16, {2}, 2, 2, true},
                                                                   {300, 9, 16, {8}, 2, 1, false},
                                                                   {127, 4, 5, {100}, 2, 2, true}}) {
    INFO("N = ", s.n, ", B = ", s.block, ", L = ", s.levels, ", L_e = ", s.enriched);
    Rows q = random_rows(s, ++seed), k = random_rows(s, ++seed), v = random_rows(s, ++seed),
         d_o = random_rows(s, ++seed);
    const std::vector<llsa_study::Table> picks =
        llsa_study::select(s, llsa_study::pyramid(s, q), llsa_study::pyramid(s, k));
    const llsa_study::Result expected = llsa_study::attention(s, picks, q, k, v);
    const llsa_study::Gradients grads = llsa_study::backward(s, picks, q, k, v, expected, d_o);

    LlsaOptions options;
    options.block = s.block;
    options.topk = s.k;
    options.levels = s.levels;
    options.enriched = s.enriched;
    options.reweight = s.reweight;
    const LlsaPlan plan = llsa_plan(s.n, options);
    for (const DType dtype : {DType::f64, DType::f32}) {
      const auto tensor = [&](const Rows& rows) {
        return cast(ctx, from_vector(ctx, flat(rows), Shape{1, 1, s.n, s.d}), dtype);
      };
      const Tensor tq = tensor(q), tk = tensor(k), tv = tensor(v), td_o = tensor(d_o);
      const LlsaIndices indices = llsa_select(ctx, tq, tk, plan);
      for (int l = 1; l <= s.levels; ++l) {
        const Tensor& table = indices.level[static_cast<std::size_t>(l) - 1];
        CHECK(to_vector<std::int32_t>(ctx, table) ==
              padded(picks[static_cast<std::size_t>(l)], static_cast<int>(table.size(3))));
      }
      const LlsaResult result = llsa_attend(ctx, tq, tk, tv, indices, plan);
      const AttentionGrads d = llsa_attention_backward(ctx, td_o, *result.state);

      const double tolerance = dtype == DType::f64 ? 1e-12 : 2e-5;
      const auto error = [&](const Tensor& found, const test::Matrix& wanted) {
        return test::largest_difference(to_vector<double>(ctx, found), wanted) /
               std::max(1.0, test::largest(wanted));
      };
      CHECK(error(result.o, flat(expected.o)) <= tolerance);
      CHECK(error(result.lse, expected.lse) <= tolerance);
      CHECK(error(d.dq, flat(grads.dq)) <= tolerance);
      CHECK(error(d.dk, flat(grads.dk)) <= tolerance);
      CHECK(error(d.dv, flat(grads.dv)) <= tolerance);
    }
  }
}

TEST_CASE("it chooses as many levels as the engine, and counts as many keys") {
  for (const int block : {2, 3, 16})
    for (const int n : {1, 2, 3, 4, 8, 9, 26, 27, 255, 256, 257, 4095, 4096, 5000}) {
      INFO("B = ", block, ", N = ", n);
      LlsaOptions options;
      options.block = block;
      const LlsaPlan plan = llsa_plan(n, options);
      CHECK(llsa_study::usual_levels(n, block) == plan.levels);
      for (int l = 0; l <= plan.levels; ++l) {
        const llsa_study::Sizes s{n, 1, block, {8}, plan.levels, plan.levels, true};
        CHECK(s.count(l) == plan.count[static_cast<std::size_t>(l)]);
        CHECK(s.covered(l, s.count(l) - 1) == plan.covered(l, s.count(l) - 1));
      }
    }
}

TEST_SUITE_END();

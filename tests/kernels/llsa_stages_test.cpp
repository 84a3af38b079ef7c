// Pyramid, selection and transpose on their own.
#include <doctest/doctest.h>

#include <cstring>
#include <limits>

#include "core/philox.h"
#include "tests/support/llsa_run.h"
#include "tests/support/tensors.h"

using namespace llsa;
using namespace llsa::kernels;
using namespace llsa::test;

namespace {

PickTable table_of(Context& ctx, const LlsaIndices& indices, const LlsaCase& c, std::int64_t head) {
  PickTable picks(indices.level.size() + 1);
  for (std::size_t l = 1; l <= indices.level.size(); ++l) {
    const auto flat = to_vector<std::int32_t>(ctx, indices.level[l - 1]);
    const std::int64_t rows = c.count(static_cast<int>(l)), width = indices.level[l - 1].size(3);
    for (std::int64_t i = 0; i < rows; ++i) {
      std::vector<std::int64_t> row;
      for (std::int64_t e = 0; e < width; ++e) {
        const std::int32_t j = flat[static_cast<std::size_t>((head * rows + i) * width + e)];
        if (j >= 0) row.push_back(j);
      }
      picks[l].push_back(row);
    }
  }
  return picks;
}

/// Each row: ascending, of the right length, from its candidates, and no candidate left out beats a picked
/// one.
void check_by_score_gap(const LlsaCase& c, const PickTable& picks, const Matrix& q, const Matrix& k,
                        double tolerance) {
  for (int l = c.levels; l >= 1; --l) {
    for (std::int64_t i = 0; i < c.count(l); ++i) {
      const auto& row = picks[static_cast<std::size_t>(l)][static_cast<std::size_t>(i)];
      const std::vector<double> query = pooled(c, q, l, i);
      const auto options = candidates(c, picks, l, i);
      REQUIRE(row.size() ==
              std::min(options.size(), static_cast<std::size_t>(c.topk[static_cast<std::size_t>(l) - 1])));
      double worst_picked = std::numeric_limits<double>::infinity(), best_left = -worst_picked;
      std::size_t found = 0;
      for (std::int64_t t : options) {
        const double s = dot(query, pooled(c, k, l, t));
        const bool picked = std::binary_search(row.begin(), row.end(), t);
        found += picked;
        if (picked) {
          worst_picked = std::min(worst_picked, s);
        } else {
          best_left = std::max(best_left, s);
        }
      }
      REQUIRE(found == row.size());
      REQUIRE(std::adjacent_find(row.begin(), row.end(), std::greater_equal<>()) == row.end());
      if (found < options.size()) REQUIRE(worst_picked >= best_left - tolerance);
    }
  }
}

}  // namespace

TEST_SUITE_BEGIN("kernels/llsa_stages");

TEST_CASE("pyramid: means of the fine tokens, ragged, f64 and f32 and bf16") {
  Context ctx;
  for (const LlsaCase& c :
       {LlsaCase{131, 7, 3, {2}, 4, 4}, LlsaCase{300, 16, 16, {2}, 2, 2}, LlsaCase{40, 3, 17, {2}, 1, 1}}) {
    const LlsaProblem p(c, 2, 2, 5);
    const LlsaPlan plan = llsa_plan(c.n, options_of(c));
    for (DType dtype : {DType::f64, DType::f32, DType::bf16}) {
      const auto levels = llsa_pyramid(ctx, tensor_of(ctx, p.q, p.shape(), dtype), plan);
      REQUIRE(levels.size() == static_cast<std::size_t>(c.levels));
      for (int l = 1; l <= c.levels; ++l) {
        const Tensor& x = levels[static_cast<std::size_t>(l) - 1];
        CHECK(x.shape() == Shape{2, 2, c.count(l), c.d});
        CHECK(x.dtype() == dtype);
        Matrix expected;
        for (std::int64_t h = 0; h < 4; ++h)
          for (std::int64_t i = 0; i < c.count(l); ++i) append(expected, pooled(c, p.head(p.q, h), l, i));
        const double tolerance = dtype == DType::f64 ? 1e-14 : dtype == DType::f32 ? 1e-6 : 8e-3;
        CHECK(relative_error(to_vector<double>(ctx, x), expected) <= tolerance);
      }
    }
  }
}

TEST_CASE("pyramid: bf16 levels are rounded once, from sums in f32") {
  Context ctx;
  // 256 tokens 1 + n/256: bf16 steps near 1 are 1/128, so a mean of rounded means would be off.
  std::vector<float> x;
  for (int n = 0; n < 256; ++n) x.push_back(static_cast<float>(bf16(1.0f + static_cast<float>(n) / 256)));
  double sum = 0;
  for (float value : x) sum += static_cast<double>(value);
  LlsaOptions o;
  o.levels = 2;
  const auto levels =
      llsa_pyramid(ctx, cast(ctx, from_vector(ctx, x, {1, 1, 256, 1}), DType::bf16), llsa_plan(256, o));
  CHECK(to_vector<float>(ctx, levels[1])[0] == static_cast<float>(bf16(static_cast<float>(sum / 256))));
}

TEST_CASE("selection equals the oracle's in f64, and holds its score gap in f32 and bf16") {
  Context ctx;
  std::uint64_t seed = 0;
  for (const LlsaCase& c :
       {LlsaCase{131, 7, 3, {2}, 4, 4}, LlsaCase{512, 16, 16, {4, 4}, 2, 2}, LlsaCase{290, 8, 17, {3}, 1, 1},
        LlsaCase{97, 5, 2, {5, 4, 3, 2, 1}, 5, 5}, LlsaCase{97, 5, 2, {1, 2, 3, 4, 5}, 5, 5},
        LlsaCase{127, 4, 5, {100}, 2, 2}, LlsaCase{600, 9, 2, {20}, 1, 1}, LlsaCase{17, 3, 16, {2}, 1, 1}}) {
    LlsaCase full = c;
    if (full.topk.size() == 1) full.topk.assign(static_cast<std::size_t>(c.levels), c.topk[0]);
    const LlsaProblem p(full, 1, 2, ++seed);
    const LlsaPlan plan = llsa_plan(c.n, options_of(full));
    for (DType dtype : {DType::f64, DType::f32, DType::bf16}) {
      const Tensor q = tensor_of(ctx, p.q, p.shape(), dtype), k = tensor_of(ctx, p.k, p.shape(), dtype);
      const LlsaIndices indices = llsa_select(ctx, q, k, plan);
      // Compare with what the kernel was given: rounded inputs.
      LlsaProblem given = p;
      given.q = to_vector<double>(ctx, q);
      given.k = to_vector<double>(ctx, k);
      for (std::int64_t h = 0; h < 2; ++h) {
        const PickTable picks = table_of(ctx, indices, full, h);
        if (dtype == DType::f64)
          CHECK(picks == oracle_select(full, given.head(given.q, h), given.head(given.k, h)));
        const double tolerance = dtype == DType::f64 ? 1e-12 : dtype == DType::f32 ? 1e-5 : 0.1;
        check_by_score_gap(full, picks, given.head(given.q, h), given.head(given.k, h), tolerance);
      }
    }
  }
}

TEST_CASE(
    "selection is exact on exact scores, ties go to the lower index, an own node is picked where asked") {
  Context ctx;
  for (const LlsaCase& c :
       {LlsaCase{256, 4, 4, {3, 3, 3}, 3, 3}, LlsaCase{512, 4, 2, {2, 3, 4, 5}, 4, 4},
        LlsaCase{1024, 8, 16, {8}, 1, 1}, LlsaCase{256, 4, 4, {3, 3, 3}, 3, 3, true, true},
        LlsaCase{512, 4, 2, {1, 3, 1, 5}, 4, 4, true, true}, LlsaCase{1024, 8, 16, {8}, 1, 1, true, true},
        LlsaCase{64, 8, 4, {100, 1}, 2, 2, true, true}}) {
    LlsaProblem p(c, 2, 2, 9);
    for (double& x : p.q) x = std::round(x);  // few distinct scores: many ties
    for (double& x : p.k) x = std::round(x);
    const LlsaPlan plan = llsa_plan(c.n, options_of(c));
    for (DType dtype : {DType::f32, DType::f64}) {
      const LlsaIndices indices = llsa_select(ctx, tensor_of(ctx, p.q, p.shape(), dtype),
                                              tensor_of(ctx, p.k, p.shape(), dtype), plan);
      for (std::int64_t h = 0; h < 4; ++h)
        CHECK(table_of(ctx, indices, c, h) == oracle_select(c, p.head(p.q, h), p.head(p.k, h)));
    }
  }
  // All scores zero, of either sign: the first K everywhere.
  LlsaOptions o;
  o.levels = 1;
  o.topk = {5};
  std::vector<float> q(1024, 1.0f), k(1024);
  for (std::size_t i = 0; i < k.size(); ++i) k[i] = i % 32 < 16 ? 0.0f : -0.0f;
  const LlsaIndices indices = llsa_select(ctx, from_vector(ctx, q, {1, 1, 1024, 1}),
                                          from_vector(ctx, k, {1, 1, 1024, 1}), llsa_plan(1024, o));
  const auto rows = to_vector<std::int32_t>(ctx, indices.level[0]);
  for (std::size_t e = 0; e < rows.size(); ++e) REQUIRE(rows[e] == static_cast<std::int32_t>(e % 5));
}

TEST_CASE("a NaN is picked only where numbers run out") {
  Context ctx;
  const LlsaCase c{64, 2, 4, {6}, 1, 1};
  LlsaProblem p(c, 1, 1, 3);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  for (std::int64_t block : {0, 3, 5}) p.k[static_cast<std::size_t>(block * 4 * 2)] = nan;
  const LlsaPlan plan = llsa_plan(c.n, options_of(c));
  for (DType dtype : {DType::f32, DType::f64}) {
    LlsaIndices indices =
        llsa_select(ctx, tensor_of(ctx, p.q, p.shape(), dtype), tensor_of(ctx, p.k, p.shape(), dtype), plan);
    PickTable picks = table_of(ctx, indices, c, 0);
    CHECK(picks == oracle_select(c, p.q, p.k));
    for (const auto& row : picks[1])
      for (std::int64_t j : row) REQUIRE((j != 0 && j != 3 && j != 5));
    // Infinities are numbers; with a single number left, NaNs fill up from the lowest index.
    Matrix k(p.k.size(), nan), q(p.q.size(), 1.0);
    k[static_cast<std::size_t>(9 * 8)] = -inf;
    for (std::size_t i = 1; i < 8; ++i) k[static_cast<std::size_t>(9 * 8) + i] = 0;
    indices =
        llsa_select(ctx, tensor_of(ctx, q, p.shape(), dtype), tensor_of(ctx, k, p.shape(), dtype), plan);
    picks = table_of(ctx, indices, c, 0);
    for (const auto& row : picks[1]) CHECK(row == std::vector<std::int64_t>{0, 1, 2, 3, 4, 9});
    // The own node is picked although its score is NaN; the others as ever.
    LlsaCase own = c;
    own.own = true;
    indices = llsa_select(ctx, tensor_of(ctx, q, p.shape(), dtype), tensor_of(ctx, k, p.shape(), dtype),
                          llsa_plan(c.n, options_of(own)));
    picks = table_of(ctx, indices, c, 0);
    CHECK(picks[1][3] == std::vector<std::int64_t>{0, 1, 2, 3, 4, 9});
    CHECK(picks[1][7] == std::vector<std::int64_t>{0, 1, 2, 3, 7, 9});
  }
}

TEST_CASE("transpose lists the queries of each key, ascending") {
  Context ctx;
  const std::int64_t heads = 6, rows = 41, width = 5, keys = 23;
  std::vector<std::int32_t> table;
  for (std::int64_t r = 0; r < heads * rows; ++r) {
    std::vector<std::int32_t> row;
    for (std::int32_t j = 0; j < keys; ++j)
      if (Philox{1, 2}.below(static_cast<std::uint64_t>(r * keys + j), 6) == 0 && row.size() < 5)
        row.push_back(j);
    row.resize(5, -1);
    table.insert(table.end(), row.begin(), row.end());
  }
  const IndexTranspose t = index_transpose(ctx, from_vector(ctx, table, {2, 3, rows, width}), keys);
  const auto offset = to_vector<std::int32_t>(ctx, t.offset), query = to_vector<std::int32_t>(ctx, t.query);
  CHECK(t.offset.shape() == Shape{2, 3, keys + 1});
  for (std::int64_t h = 0; h < heads; ++h) {
    for (std::int64_t j = 0; j < keys; ++j) {
      std::vector<std::int32_t> expected, found;
      for (std::int64_t i = 0; i < rows; ++i)
        for (std::int64_t e = 0; e < width; ++e)
          if (table[static_cast<std::size_t>((h * rows + i) * width + e)] == j)
            expected.push_back(static_cast<std::int32_t>(i));
      for (std::int32_t e = offset[static_cast<std::size_t>(h * (keys + 1) + j)];
           e < offset[static_cast<std::size_t>(h * (keys + 1) + j + 1)]; ++e)
        found.push_back(query[static_cast<std::size_t>(h * rows * width + e)]);
      REQUIRE(found == expected);
    }
  }
  table[7] = static_cast<std::int32_t>(keys);
  CHECK_THROWS_AS(index_transpose(ctx, from_vector(ctx, table, {2, 3, rows, width}), keys), ValueError);
  table[7] = -2;
  CHECK_THROWS_AS(index_transpose(ctx, from_vector(ctx, table, {2, 3, rows, width}), keys), ValueError);
  CHECK_THROWS_AS(index_transpose(ctx, ctx.zeros({2, 3, 4, 5}, DType::f32), keys), DTypeError);
  CHECK_THROWS_AS(index_transpose(ctx, ctx.zeros({2, 3, 4}, DType::i32), keys), ShapeError);
}

TEST_CASE("transpose refuses more keys than 32 bits count") {
  Context ctx(1);
  const Tensor table = ctx.zeros({1, 1, 1, 1}, DType::i32);
  CHECK_THROWS_AS(kernels::index_transpose(ctx, table, std::numeric_limits<std::int64_t>::max()), ShapeError);
}

TEST_CASE("the transpose of rows without places costs nothing, however many rows") {
  Context ctx(1);
  const Tensor table = ctx.empty({1, 1, std::int64_t{1} << 59, 0}, DType::i32);
  const IndexTranspose none = kernels::index_transpose(ctx, table, 2);
  CHECK(to_vector<std::int32_t>(ctx, none.offset) == std::vector<std::int32_t>{0, 0, 0});
}

TEST_SUITE_END();

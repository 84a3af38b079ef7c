// LLSA attention, forward and backward, against the dense oracle, full attention, its own properties and
// finite differences.
#include <doctest/doctest.h>

#include <cmath>
#include <numeric>

#include "tests/support/llsa_run.h"

using namespace llsa;
using namespace llsa::kernels;
using namespace llsa::test;

namespace {

/// Kernels with the oracle's indices against the oracle.
void check_against_oracle(Context& ctx, const LlsaProblem& p) {
  CAPTURE(p.c.n);
  CAPTURE(p.c.d);
  CAPTURE(p.c.block);
  CAPTURE(p.c.levels);
  CAPTURE(p.c.enriched);
  CAPTURE(p.c.reweight);
  CAPTURE(p.heads);
  const LlsaPlan plan = llsa_plan(p.c.n, options_of(p.c));
  const OracleAll oracle = run_oracle(p);
  const LlsaIndices indices = indices_of(ctx, p, oracle.picks, plan);
  for (DType dtype : {DType::f64, DType::f32}) {
    const double tolerance = dtype == DType::f64 ? 1e-10 : 2e-5;
    const KernelRun run = run_kernels(ctx, p, indices, plan, dtype);
    CHECK(relative_error(run.o, oracle.result.o) <= tolerance);
    CHECK(relative_error(run.lse, oracle.result.lse) <= tolerance);
    // Where nearly all attended values are the same, dP - delta cancels and gradients are far smaller than
    // dO, whose largest elements are 2 to 4: an absolute bound there.
    const auto gradient_error = [](const Matrix& a, const Matrix& b) {
      return largest(b) < 0.1 ? largest_difference(a, b) : relative_error(a, b);
    };
    CHECK(gradient_error(run.dq, oracle.result.dq) <= tolerance);
    CHECK(gradient_error(run.dk, oracle.result.dk) <= tolerance);
    CHECK(gradient_error(run.dv, oracle.result.dv) <= tolerance);
  }
}

/// Largest L that the plan accepts.
int most_levels(std::int64_t n, std::int64_t block) {
  int l = 0;
  for (; n > 1; n = (n + block - 1) / block) ++l;
  return l;
}

LlsaCase sized(std::int64_t n, std::int64_t d, std::int64_t block, std::int64_t k, int levels, int enriched,
               bool reweight) {
  return {n,      d,        block,   std::vector<std::int64_t>(static_cast<std::size_t>(levels), k),
          levels, enriched, reweight};
}

}  // namespace

TEST_SUITE_BEGIN("kernels/llsa_attention");

TEST_CASE("ragged sizes, several B, K, L, L_e, re-weighting on and off, against the dense oracle") {
  Context ctx;
  const std::vector<std::int64_t> ds = {8, 1, 5, 16, 19, 3};
  std::uint64_t seed = 0;
  for (std::int64_t block : {2, 3, 5, 16, 17}) {
    for (std::int64_t n : {std::int64_t{1}, block - 1, block, block + 1, block * block - 1, block * block + 1,
                           std::int64_t{113}}) {
      for (int levels = 0; levels <= std::min(most_levels(n, block), 4); ++levels) {
        for (std::int64_t k : {1, 3, 1000}) {
          if (levels == 0 && k > 1) continue;
          ++seed;
          const int enriched = static_cast<int>(seed % static_cast<std::uint64_t>(levels + 1));
          const std::int64_t d = ds[seed % ds.size()];
          const std::int64_t heads = n < 30 && seed % 2 == 0 ? 8 : 1 + static_cast<std::int64_t>(seed % 2);
          check_against_oracle(ctx, LlsaProblem(sized(n, d, block, k, levels, levels, true), 1, heads, seed));
          check_against_oracle(
              ctx, LlsaProblem(sized(n, d, block, k, levels, enriched, seed % 3 != 0), 1, heads, seed));
        }
      }
    }
  }
}

TEST_CASE("many heads, K per level, several batches, against the dense oracle") {
  Context ctx;
  check_against_oracle(ctx, LlsaProblem({131, 8, 4, {3, 2, 5}, 3, 3, true}, 2, 4, 1));
  check_against_oracle(ctx, LlsaProblem({131, 8, 4, {1, 2, 3}, 3, 2, true}, 2, 4, 2));
  check_against_oracle(ctx, LlsaProblem({131, 8, 4, {3, 2, 1}, 3, 1, false}, 3, 1, 3));
  check_against_oracle(ctx, LlsaProblem({256, 32, 16, {8}, 1, 1, true}, 4, 2, 4));
  check_against_oracle(ctx, LlsaProblem({333, 17, 16, {2, 1}, 2, 2, true}, 1, 2, 5));
}

TEST_CASE("blocks wider than two vectors, and more keys than one score tile") {
  Context ctx;
  check_against_oracle(ctx, LlsaProblem({261, 8, 50, {2}, 1, 1, true}, 1, 1, 1));
  check_against_oracle(ctx, LlsaProblem({1301, 4, 2, {3}, 1, 1, true}, 1, 1, 2));    // n_1 = 651
  check_against_oracle(ctx, LlsaProblem({1301, 4, 13, {90}, 1, 1, true}, 1, 8, 3));  // 1170 fine keys
}

TEST_CASE("a key that all queries pick") {
  Context ctx;
  LlsaProblem p({300, 6, 4, {2, 2}, 2, 2, true}, 1, 2, 1);
  for (std::size_t i = 0; i < p.k.size(); ++i) {
    p.q[i] = std::abs(p.q[i]);
    if (i % 1800 >= 640 && i % 1800 < 736) p.k[i] += 5;
  }
  check_against_oracle(ctx, p);
}

TEST_CASE("without enrichment and with K = all, LLSA is full attention") {
  Context ctx;
  for (const LlsaCase& c : {sized(300, 16, 16, 19, 1, 0, true), sized(131, 9, 3, 1000, 4, 0, true)}) {
    const LlsaProblem p(c, 2, 2, 7);
    const LlsaPlan plan = llsa_plan(c.n, options_of(c));
    for (DType dtype : {DType::f64, DType::f32}) {
      const Tensor q = tensor_of(ctx, p.q, p.shape(), dtype), k = tensor_of(ctx, p.k, p.shape(), dtype),
                   v = tensor_of(ctx, p.v, p.shape(), dtype), g = tensor_of(ctx, p.g, p.shape(), dtype);
      const KernelRun sparse = run_kernels(ctx, p, llsa_select(ctx, q, k, plan), plan, dtype);
      const AttentionResult r = full_attention(ctx, q, k, v);
      const AttentionGrads d = full_attention_backward(ctx, g, q, k, v, r.o, r.lse);
      const double tolerance = dtype == DType::f64 ? 1e-13 : 5e-6;
      CHECK(relative_error(sparse.o, to_vector<double>(ctx, r.o)) <= tolerance);
      CHECK(relative_error(sparse.lse, to_vector<double>(ctx, r.lse)) <= tolerance);
      CHECK(relative_error(sparse.dq, to_vector<double>(ctx, d.dq)) <= tolerance);
      CHECK(relative_error(sparse.dk, to_vector<double>(ctx, d.dk)) <= tolerance);
      CHECK(relative_error(sparse.dv, to_vector<double>(ctx, d.dv)) <= tolerance);
    }
  }
}

TEST_CASE("properties: permuted tokens inside a block, permuted blocks, shifted values, constant values") {
  Context ctx;
  const LlsaCase c = sized(256, 8, 4, 5, 3, 3, true);
  const LlsaProblem p(c, 1, 2, 21);
  const LlsaPlan plan = llsa_plan(c.n, options_of(c));
  const auto output = [&](const Matrix& k, const Matrix& v) {
    const Tensor q = tensor_of(ctx, p.q, p.shape(), DType::f64),
                 kt = tensor_of(ctx, k, p.shape(), DType::f64);
    return to_vector<double>(
        ctx, llsa_attention(ctx, q, kt, tensor_of(ctx, v, p.shape(), DType::f64), options_of(c)).o);
  };
  const auto permuted = [&](const Matrix& x, auto source) {
    Matrix y;
    for (std::int64_t h = 0; h < 2; ++h)
      for (std::int64_t n = 0; n < c.n; ++n)
        for (std::int64_t j = 0; j < c.d; ++j)
          y.push_back(x[static_cast<std::size_t>((h * c.n + source(n)) * c.d + j)]);
    return y;
  };
  const Matrix o = output(p.k, p.v);
  const auto within_block = [](std::int64_t n) { return n / 4 == 13 ? 13 * 4 + (n + 3) % 4 : n; };
  CHECK(relative_error(output(permuted(p.k, within_block), permuted(p.v, within_block)), o) <= 1e-13);
  const auto whole_blocks = [](std::int64_t n) { return (n / 64 + 1) % 4 * 64 + n % 64; };  // B^L = 64
  CHECK(relative_error(output(permuted(p.k, whole_blocks), permuted(p.v, whole_blocks)), o) <= 1e-13);

  Matrix shifted_v = p.v, shifted_o = o;
  for (double& x : shifted_v) x += 3.5;
  for (double& x : shifted_o) x += 3.5;
  CHECK(relative_error(output(p.k, shifted_v), shifted_o) <= 1e-13);
  const Matrix ones(p.v.size(), 1.0);
  CHECK(relative_error(output(p.k, ones), ones) <= 1e-14);
}

TEST_CASE("finite differences, indices fixed") {
  Context ctx;
  for (const LlsaCase& c : {sized(113, 7, 4, 2, 3, 3, true), sized(40, 5, 3, 2, 2, 1, false)}) {
    const LlsaProblem p(c, 1, 2, 31);
    const LlsaPlan plan = llsa_plan(c.n, options_of(c));
    const LlsaIndices indices = indices_of(ctx, p, run_oracle(p).picks, plan);
    const KernelRun run = run_kernels(ctx, p, indices, plan, DType::f64);
    const auto loss = [&](const LlsaProblem& at) {
      const KernelRun r = run_kernels(ctx, at, indices, plan, DType::f64);
      return std::inner_product(r.o.begin(), r.o.end(), at.g.begin(), 0.0);
    };
    const auto check = [&](Matrix LlsaProblem::*input, const Matrix& gradient, std::uint64_t seed) {
      const Matrix direction = random_matrix(static_cast<std::int64_t>(gradient.size()), seed);
      const double step = 1e-5;
      LlsaProblem plus = p, minus = p;
      for (std::size_t i = 0; i < direction.size(); ++i) {
        (plus.*input)[i] += step * direction[i];
        (minus.*input)[i] -= step * direction[i];
      }
      const double expected = (loss(plus) - loss(minus)) / (2 * step);
      const double found = std::inner_product(gradient.begin(), gradient.end(), direction.begin(), 0.0);
      CHECK(std::abs(found - expected) <= 1e-7 * std::max(1.0, std::abs(expected)));
    };
    check(&LlsaProblem::q, run.dq, 101);
    check(&LlsaProblem::k, run.dk, 102);
    check(&LlsaProblem::v, run.dv, 103);
  }
}

TEST_CASE("bf16 storage: as close as rounding of inputs and outputs allows") {
  Context ctx;
  LlsaProblem p(sized(300, 16, 16, 3, 2, 2, true), 1, 2, 41);
  for (Matrix* x : {&p.q, &p.k, &p.v, &p.g})
    for (double& value : *x) value = static_cast<double>(static_cast<float>(bf16(static_cast<float>(value))));
  const LlsaPlan plan = llsa_plan(p.c.n, options_of(p.c));
  const OracleAll oracle = run_oracle(p);
  const KernelRun run = run_kernels(ctx, p, indices_of(ctx, p, oracle.picks, plan), plan, DType::bf16);
  CHECK(relative_error(run.o, oracle.result.o) <= 6e-3);
  CHECK(relative_error(run.lse, oracle.result.lse) <= 2e-3);
  CHECK(relative_error(run.dq, oracle.result.dq) <= 1e-2);
  CHECK(relative_error(run.dk, oracle.result.dk) <= 1e-2);
  CHECK(relative_error(run.dv, oracle.result.dv) <= 1e-2);
}

TEST_CASE("strided views give the bits of contiguous tensors; o is merged in memory") {
  Context ctx;
  const LlsaCase c = sized(85, 6, 4, 2, 2, 2, true);
  const LlsaProblem p(c, 2, 3, 51);
  const LlsaPlan plan = llsa_plan(c.n, options_of(c));
  const auto merged_view = [&](const Matrix& x) {
    return contiguous(ctx, tensor_of(ctx, x, p.shape(), DType::f32).transpose(1, 2)).transpose(1, 2);
  };
  const Tensor q = merged_view(p.q), k = merged_view(p.k), v = merged_view(p.v), g = merged_view(p.g);
  REQUIRE(!q.is_contiguous());
  const LlsaIndices indices = llsa_select(ctx, q, k, plan);
  const LlsaResult r = llsa_attend(ctx, q, k, v, indices, plan);
  const AttentionGrads d = llsa_attention_backward(ctx, g, *r.state);
  CHECK(r.o.transpose(1, 2).is_contiguous());
  CHECK(d.dk.is_contiguous());
  const KernelRun run = run_kernels(ctx, p, indices, plan, DType::f32);
  CHECK(to_vector<double>(ctx, r.o) == run.o);
  CHECK(to_vector<double>(ctx, d.dq) == run.dq);
  CHECK(to_vector<double>(ctx, d.dk) == run.dk);
  CHECK(to_vector<double>(ctx, d.dv) == run.dv);
}

TEST_CASE("the op gives the bits of its stages, and its state holds the picks") {
  Context ctx;
  for (const int enriched : {1, 2}) {
    const LlsaCase c = sized(85, 6, 4, 3, 2, enriched, true);
    const LlsaProblem p(c, 2, 3, 52);
    const LlsaPlan plan = llsa_plan(c.n, options_of(c));
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const auto tensor = [&](const Matrix& x) { return tensor_of(ctx, x, p.shape(), dtype); };
      const Tensor q = tensor(p.q), k = tensor(p.k), v = tensor(p.v), g = tensor(p.g);
      const LlsaIndices indices =
          llsa_select(ctx, llsa_pyramid(ctx, q, plan), llsa_pyramid(ctx, k, plan), plan);
      const KernelRun stages = run_kernels(ctx, p, indices, plan, dtype);
      const LlsaResult op = llsa_attention(ctx, q, k, v, options_of(c));
      for (const LlsaIndices& same : {llsa_select(ctx, q, k, plan), llsa_indices(*op.state)}) {
        REQUIRE(same.level.size() == indices.level.size());
        for (std::size_t l = 0; l < same.level.size(); ++l)
          CHECK(to_vector<std::int32_t>(ctx, indices.level[l]) ==
                to_vector<std::int32_t>(ctx, same.level[l]));
      }
      for (const LlsaResult& r : {op, llsa_attend(ctx, q, k, v, *op.state)}) {
        const AttentionGrads d = llsa_attention_backward(ctx, g, *r.state);
        CHECK(to_vector<double>(ctx, r.o) == stages.o);
        CHECK(to_vector<double>(ctx, r.lse) == stages.lse);
        CHECK(to_vector<double>(ctx, d.dq) == stages.dq);
        CHECK(to_vector<double>(ctx, d.dk) == stages.dk);
        CHECK(to_vector<double>(ctx, d.dv) == stages.dv);
      }
    }
  }
}

TEST_CASE("a NaN stays where it belongs") {
  Context ctx;
  const LlsaCase c = sized(64, 4, 4, 2, 1, 0, true);
  LlsaProblem p(c, 1, 1, 61);
  const LlsaPlan plan = llsa_plan(c.n, options_of(c));
  const PickTable picks = run_oracle(p).picks[0];
  const LlsaIndices indices = indices_of(ctx, p, {picks}, plan);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  p.q[4 * 10] = nan;
  KernelRun run = run_kernels(ctx, p, indices, plan, DType::f32);
  for (std::size_t i = 0; i < run.o.size(); ++i) REQUIRE(std::isnan(run.o[i]) == (i / 4 == 10));
  p.q[4 * 10] = 0;
  p.v[4 * 21 + 2] = nan;  // block 5, element 2
  run = run_kernels(ctx, p, indices, plan, DType::f32);
  for (std::size_t i = 0; i < run.o.size(); ++i) {
    const auto& row = picks[1][i / 16];
    REQUIRE(std::isnan(run.o[i]) == (i % 4 == 2 && std::count(row.begin(), row.end(), 5) > 0));
  }
}

TEST_CASE("memory grows with the number of tokens, not with its square") {
  Context ctx(1);
  const auto peak = [&ctx](std::int64_t n) {
    ctx.allocator()->reset_peak();
    const LlsaPlan plan = llsa_plan(n, LlsaOptions());
    const Tensor x = ctx.zeros({1, 1, n, 4}, DType::f32);
    const LlsaIndices indices = llsa_select(ctx, x, x, plan);
    const LlsaResult r = llsa_attend(ctx, x, x, x, indices, plan);
    llsa_attention_backward(ctx, x, *r.state);
    return static_cast<double>(ctx.allocator()->stats().peak);
  };
  const double small = peak(4096);
  CHECK(peak(16384) <= 4.4 * small);
}

TEST_CASE("argument errors") {
  Context ctx;
  const LlsaPlan plan = llsa_plan(64, LlsaOptions{4, {2}, 2, -1, true});
  const Tensor x = ctx.zeros({1, 2, 64, 4}, DType::f32), short_x = ctx.zeros({1, 2, 63, 4}, DType::f32);
  LlsaIndices good = llsa_select(ctx, x, x, plan);
  CHECK_NOTHROW(llsa_attend(ctx, x, x, x, good, plan));
  CHECK_THROWS_AS(llsa_attend(ctx, short_x, x, x, good, plan), ShapeError);
  CHECK_THROWS_AS(llsa_attend(ctx, x, short_x, x, good, plan), ShapeError);
  CHECK_THROWS_AS(llsa_attend(ctx, x, x, short_x, good, plan), ShapeError);
  CHECK_THROWS_AS(llsa_attend(ctx, x, x, ctx.zeros({1, 2, 64, 4}, DType::f64), good, plan), DTypeError);
  CHECK_THROWS_AS(llsa_select(ctx, ctx.zeros({1, 2, 64, 4}, DType::i32), x, plan), DTypeError);
  CHECK_THROWS_AS(llsa_select(ctx, ctx.zeros({2, 64, 4}, DType::f32), x, plan), ShapeError);
  CHECK_THROWS_AS(llsa_attend(ctx, x, x, x, LlsaIndices{{good.level[0]}}, plan), ShapeError);
  CHECK_THROWS_AS(llsa_attend(ctx, x, x, x, LlsaIndices{{good.level[1], good.level[0]}}, plan), ShapeError);

  const std::vector<Tensor> pyramid = llsa_pyramid(ctx, x, plan), one_level = llsa_pyramid(ctx, x, plan, 1);
  const std::vector<Tensor> turned = {pyramid[1], pyramid[0]};
  CHECK_THROWS_AS(llsa_select(ctx, pyramid, one_level, plan), ShapeError);
  CHECK_THROWS_AS(llsa_select(ctx, std::vector<Tensor>(), pyramid, plan), ShapeError);
  CHECK_THROWS_AS(llsa_select(ctx, pyramid, turned, plan), ShapeError);
  CHECK_THROWS_AS(llsa_pyramid(ctx, x, plan, 3), ValueError);

  const LlsaOptions options = {4, {2}, 2, -1, true};
  CHECK_THROWS_AS(llsa_attention(ctx, x, short_x, x, options), ShapeError);
  CHECK_THROWS_AS(llsa_attention(ctx, x, x, ctx.zeros({1, 2, 64, 4}, DType::f64), options), DTypeError);
  CHECK_THROWS_AS(llsa_attention(ctx, ctx.zeros({2, 64, 4}, DType::f32), x, x, options), ShapeError);
  CHECK_THROWS_AS(llsa_attention(ctx, x, x, Tensor(), options), ValueError);
  CHECK_THROWS_AS(llsa_attention(ctx, x, x, x, {.block = 1}), ValueError);
  const LlsaResult r = llsa_attention(ctx, x, x, x, options);
  CHECK_THROWS_AS(llsa_attend(ctx, short_x, short_x, short_x, *r.state), ShapeError);
  CHECK_THROWS_AS(llsa_attention_backward(ctx, short_x, *r.state), ShapeError);
  CHECK_THROWS_AS(llsa_attention_backward(ctx, ctx.zeros({1, 2, 64, 4}, DType::f64), *r.state), DTypeError);

  const auto with_first_row = [&](std::int32_t a, std::int32_t b) {
    LlsaIndices indices = good;
    auto table = to_vector<std::int32_t>(ctx, good.level[0]);
    table[0] = a;
    table[1] = b;
    indices.level[0] = from_vector(ctx, table, good.level[0].shape());
    return indices;
  };
  CHECK_NOTHROW(llsa_attend(ctx, x, x, x, with_first_row(3, -1), plan));
  CHECK_THROWS_AS(llsa_attend(ctx, x, x, x, with_first_row(3, 16), plan), ValueError);
  CHECK_THROWS_AS(llsa_attend(ctx, x, x, x, with_first_row(3, 3), plan), ValueError);
  CHECK_THROWS_AS(llsa_attend(ctx, x, x, x, with_first_row(3, 2), plan), ValueError);
  CHECK_THROWS_AS(llsa_attend(ctx, x, x, x, with_first_row(-1, 2), plan), ValueError);
  CHECK_THROWS_AS(llsa_attend(ctx, x, x, x, with_first_row(-1, -1), plan), ValueError);
  CHECK_THROWS_AS(llsa_attend(ctx, x, x, x, with_first_row(-2, 2), plan), ValueError);
}

TEST_SUITE_END();

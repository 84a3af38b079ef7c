// Full attention against a direct softmax in f64; equal bits for any number of threads, LLSA included.
#include "kernels/attention.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "tests/support/llsa_run.h"

using namespace llsa;
using namespace llsa::kernels;
using namespace llsa::test;

namespace {

struct Everything {
  AttentionResult result;
  AttentionGrads grads;
  LlsaIndices indices;
};

bool equal_bits(Context& ctx, const Tensor& a, const Tensor& b) {
  const Tensor x = contiguous(ctx, a), y = contiguous(ctx, b);
  return x.shape() == y.shape() && std::memcmp(x.raw(), y.raw(), x.nbytes()) == 0;
}

bool equal_bits(Context& ctx, const Everything& a, const Everything& b) {
  bool equal = equal_bits(ctx, a.result.o, b.result.o) && equal_bits(ctx, a.result.lse, b.result.lse) &&
               equal_bits(ctx, a.grads.dq, b.grads.dq) && equal_bits(ctx, a.grads.dk, b.grads.dk) &&
               equal_bits(ctx, a.grads.dv, b.grads.dv);
  for (std::size_t l = 0; l < a.indices.level.size(); ++l)
    equal = equal && equal_bits(ctx, a.indices.level[l], b.indices.level[l]);
  return equal;
}

Tensor matrix(Context& ctx, std::int64_t size, const Shape& shape, DType dtype, std::uint64_t seed) {
  return tensor_of(ctx, random_matrix(size, seed), shape, dtype);
}

}  // namespace

TEST_SUITE_BEGIN("kernels/attention");

TEST_CASE("self attention against the oracle: odd sizes, few and many heads") {
  Context ctx;
  std::uint64_t seed = 200;
  for (std::int64_t n : {1, 2, 31, 33, 257, 700}) {
    for (std::int64_t d : {1, 24, 33}) {
      for (std::int64_t heads : {1, 9}) {
        if (heads == 9 && n > 100) continue;
        CAPTURE(n);
        CAPTURE(d);
        const LlsaProblem p({n, d, 2, {}, 0, 0, true}, 1, heads, ++seed);
        const OracleResult expected = run_oracle(p).result;
        const LlsaPlan plan = llsa_plan(n, options_of(p.c));
        for (DType dtype : {DType::f64, DType::f32}) {
          const double tolerance = dtype == DType::f64 ? 1e-12 : 5e-6;
          const KernelRun run = run_kernels(ctx, p, {}, plan, dtype);  // no levels: full attention
          CHECK(relative_error(run.o, expected.o) <= tolerance);
          CHECK(relative_error(run.lse, expected.lse) <= tolerance);
          CHECK(relative_error(run.dv, expected.dv) <= tolerance);
          if (n == 1) continue;  // dq = dk = 0
          CHECK(relative_error(run.dq, expected.dq) <= 4 * tolerance);
          CHECK(relative_error(run.dk, expected.dk) <= 4 * tolerance);
        }
      }
    }
  }
}

TEST_CASE("other numbers of keys than queries: softmax by hand, gradients by finite differences") {
  Context ctx;
  const std::int64_t n = 5, m = 37, d = 3;
  Matrix q = random_matrix(n * d, 1), k = random_matrix(m * d, 2), v = random_matrix(m * d, 3);
  const Matrix g = random_matrix(n * d, 4);
  const auto forward = [&] {
    return full_attention(ctx, from_vector(ctx, q, {1, 1, n, d}), from_vector(ctx, k, {1, 1, m, d}),
                          from_vector(ctx, v, {1, 1, m, d}));
  };
  const AttentionResult r = forward();
  const auto o = to_vector<double>(ctx, r.o);
  for (std::int64_t i = 0; i < n; ++i) {
    Matrix expected(static_cast<std::size_t>(d), 0.0);
    double sum = 0;
    for (std::int64_t j = 0; j < m; ++j) {
      double s = 0;
      for (std::int64_t e = 0; e < d; ++e)
        s += q[static_cast<std::size_t>(i * d + e)] * k[static_cast<std::size_t>(j * d + e)];
      const double p = std::exp(s / std::sqrt(static_cast<double>(d)));
      sum += p;
      for (std::int64_t e = 0; e < d; ++e)
        expected[static_cast<std::size_t>(e)] += p * v[static_cast<std::size_t>(j * d + e)];
    }
    for (std::int64_t e = 0; e < d; ++e)
      CHECK(std::abs(o[static_cast<std::size_t>(i * d + e)] - expected[static_cast<std::size_t>(e)] / sum) <=
            1e-13);
  }
  const AttentionGrads grads = full_attention_backward(
      ctx, from_vector(ctx, g, {1, 1, n, d}), from_vector(ctx, q, {1, 1, n, d}),
      from_vector(ctx, k, {1, 1, m, d}), from_vector(ctx, v, {1, 1, m, d}), r.o, r.lse);
  const auto check = [&](Matrix& x, const Tensor& gradient) {
    const auto found = to_vector<double>(ctx, gradient);
    REQUIRE(found.size() == x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      const auto loss = [&](double change) {
        const double kept = x[i];
        x[i] += change;
        const auto at = to_vector<double>(ctx, forward().o);
        x[i] = kept;
        double sum = 0;
        for (std::size_t e = 0; e < at.size(); ++e) sum += at[e] * g[e];
        return sum;
      };
      REQUIRE(std::abs(found[i] - (loss(1e-5) - loss(-1e-5)) / 2e-5) <= 1e-8);
    }
  };
  check(q, grads.dq);
  check(k, grads.dk);
  check(v, grads.dv);
}

TEST_CASE("large scores neither overflow nor vanish") {
  Context ctx;
  Matrix q = random_matrix(64 * 8, 1), k = random_matrix(64 * 8, 2);
  for (double& x : q) x *= 300;
  const Tensor v = matrix(ctx, 64 * 8, {1, 1, 64, 8}, DType::f32, 3);
  const AttentionResult r = full_attention(ctx, tensor_of(ctx, q, {1, 1, 64, 8}, DType::f32),
                                           tensor_of(ctx, k, {1, 1, 64, 8}, DType::f32), v);
  const AttentionResult exact =
      full_attention(ctx, tensor_of(ctx, q, {1, 1, 64, 8}, DType::f64),
                     tensor_of(ctx, k, {1, 1, 64, 8}, DType::f64), cast(ctx, v, DType::f64));
  CHECK(relative_error(to_vector<double>(ctx, r.o), to_vector<double>(ctx, exact.o)) <= 2e-3);
  CHECK(relative_error(to_vector<double>(ctx, r.lse), to_vector<double>(ctx, exact.lse)) <= 1e-6);
}

TEST_CASE("memory is linear in the number of tokens") {
  Context ctx(1);
  // Beyond what is there before: the results, and what the kernels take meanwhile. With 4 heads or more the
  // backward pass takes them whole.
  for (const std::int64_t heads : {1, 4}) {
    CAPTURE(heads);
    std::array<double, 2> forward{}, backward{};
    for (const std::int64_t i : {0, 1}) {
      const std::int64_t n = 2048 << i;
      const Tensor x = matrix(ctx, heads * n * 8, {1, heads, n, 8}, DType::f32, 1);
      const auto peak_of = [&](auto&& work) {
        ctx.allocator()->reset_peak();
        const std::size_t before = ctx.allocator()->stats().active;
        const auto kept = work();
        return std::pair(kept, static_cast<double>(ctx.allocator()->stats().peak - before));
      };
      const auto [r, forward_bytes] = peak_of([&] { return full_attention(ctx, x, x, x); });
      const Tensor o = r.o, lse = r.lse;
      const auto at = static_cast<std::size_t>(i);
      forward[at] = forward_bytes;
      backward[at] = peak_of([&] { return full_attention_backward(ctx, x, x, x, x, o, lse); }).second;
    }
    CHECK(forward[0] >= 2048 * 8 * 4);  // O at least
    CHECK(backward[0] >= 3 * 2048 * 8 * 4);
    CHECK(forward[1] <= 2.05 * forward[0]);
    CHECK(backward[1] <= 2.05 * backward[0]);
  }
}

TEST_CASE("equal bits for 1, 2 and 3 threads and from run to run") {
  struct Sizes {
    std::int64_t batch, heads, n, d;
    int block, levels;
  };
  for (const Sizes& s : {Sizes{1, 3, 1000, 20, 4, -1}, Sizes{2, 4, 300, 16, 16, 1}, Sizes{1, 2, 700, 8, 2, 0},
                         Sizes{3, 3, 150, 8, 2, 0}}) {
    for (DType dtype : {DType::f32, DType::bf16}) {
      LlsaOptions options;
      options.block = s.block;
      options.levels = s.levels;
      const LlsaPlan plan = llsa_plan(s.n, options);
      const Shape shape = {s.batch, s.heads, s.n, s.d};
      const auto run = [&](Context& ctx) {
        const Tensor q = matrix(ctx, shape.numel(), shape, dtype, 1),
                     k = matrix(ctx, shape.numel(), shape, dtype, 2),
                     v = matrix(ctx, shape.numel(), shape, dtype, 3),
                     g = matrix(ctx, shape.numel(), shape, dtype, 4);
        Everything all;
        all.indices = llsa_select(ctx, q, k, plan);
        all.result = llsa_attention(ctx, q, k, v, all.indices, plan);
        all.grads = llsa_attention_backward(ctx, g, q, k, v, all.result.o, all.result.lse, all.indices, plan);
        return all;
      };
      Context one(1), two(2), three(3);
      const Everything reference = run(one);
      CHECK(equal_bits(one, reference, run(one)));
      CHECK(equal_bits(one, reference, run(two)));
      CHECK(equal_bits(one, reference, run(three)));
      CHECK(equal_bits(one, reference, run(three)));
    }
  }
}

TEST_CASE("argument errors") {
  Context ctx;
  const Tensor x = ctx.zeros({1, 2, 8, 4}, DType::f32);
  CHECK_THROWS_AS(full_attention(ctx, x, ctx.zeros({1, 3, 8, 4}, DType::f32), x), ShapeError);
  CHECK_THROWS_AS(full_attention(ctx, x, ctx.zeros({1, 2, 8, 5}, DType::f32), x), ShapeError);
  CHECK_THROWS_AS(full_attention(ctx, x, x, ctx.zeros({1, 2, 9, 4}, DType::f32)), ShapeError);
  CHECK_THROWS_AS(full_attention(ctx, ctx.zeros({1, 2, 0, 4}, DType::f32), x, x), ShapeError);
  CHECK_THROWS_AS(full_attention(ctx, ctx.zeros({1, 2, 8, 4}, DType::i64), x, x), DTypeError);
  CHECK_THROWS_AS(full_attention(ctx, x, ctx.zeros({1, 2, 8, 4}, DType::f64), x), DTypeError);
  CHECK_THROWS_WITH_AS(full_attention(ctx, x, x, x, AttentionKernels::library),
                       "[full_attention] no library computes this: this build has none for the device cpu",
                       DeviceError);
  const AttentionResult r = full_attention(ctx, x, x, x, AttentionKernels::own);
  CHECK_THROWS_AS(full_attention_backward(ctx, x, x, x, x, r.o, r.lse, AttentionKernels::library),
                  DeviceError);
}

TEST_SUITE_END();

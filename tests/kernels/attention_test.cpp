// Full attention against a direct softmax in f64; equal bits for any number of threads, LLSA included.
#include "kernels/attention.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
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

namespace {

struct CausalProblem {
  std::int64_t heads, n, m, d;
  Matrix q, k, v, g;

  CausalProblem(std::int64_t heads_, std::int64_t n_, std::int64_t m_, std::int64_t d_, std::uint64_t seed)
      : heads(heads_),
        n(n_),
        m(m_),
        d(d_),
        q(random_matrix(heads * n * d, seed)),
        k(random_matrix(heads * m * d, seed + 1)),
        v(random_matrix(heads * m * d, seed + 2)),
        g(random_matrix(heads * n * d, seed + 3)) {}
  Shape query_shape() const { return {1, heads, n, d}; }
  Shape key_shape() const { return {1, heads, m, d}; }
};

/// o, lse, dq, dk, dv by sums over the pairs that see each other.
KernelRun causal_by_hand(const CausalProblem& p) {
  KernelRun r;
  r.dk.assign(p.k.size(), 0.0);
  r.dv.assign(p.k.size(), 0.0);
  const double scale = 1 / std::sqrt(static_cast<double>(p.d));
  for (std::int64_t row = 0; row < p.heads * p.n; ++row) {
    const std::int64_t seen = row % p.n + p.m - p.n + 1, first = row / p.n * p.m;  // its keys
    const double* const q = p.q.data() + row * p.d;
    const double* const g = p.g.data() + row * p.d;
    const auto dot_row = [&](const double* x, const Matrix& y, std::int64_t s) {
      return std::inner_product(x, x + p.d, y.data() + (first + s) * p.d, 0.0);
    };
    Matrix weight, o(static_cast<std::size_t>(p.d), 0.0), dq = o;
    double sum = 0;
    for (std::int64_t s = 0; s < seen; ++s) {
      weight.push_back(std::exp(scale * dot_row(q, p.k, s)));
      sum += weight.back();
    }
    double delta = 0;
    for (std::int64_t s = 0; s < seen; ++s) {
      weight[static_cast<std::size_t>(s)] /= sum;
      delta += weight[static_cast<std::size_t>(s)] * dot_row(g, p.v, s);
    }
    for (std::int64_t s = 0; s < seen; ++s) {
      const double w = weight[static_cast<std::size_t>(s)];
      const double ds = w * (dot_row(g, p.v, s) - delta) * scale;
      for (std::int64_t e = 0; e < p.d; ++e) {
        const auto at = static_cast<std::size_t>((first + s) * p.d + e), j = static_cast<std::size_t>(e);
        o[j] += w * p.v[at];
        dq[j] += ds * p.k[at];
        r.dk[at] += ds * q[e];
        r.dv[at] += w * g[e];
      }
    }
    append(r.o, o);
    append(r.dq, dq);
    r.lse.push_back(std::log(sum));
  }
  return r;
}

KernelRun run_causal(Context& ctx, const CausalProblem& p, DType dtype) {
  const Tensor q = tensor_of(ctx, p.q, p.query_shape(), dtype), k = tensor_of(ctx, p.k, p.key_shape(), dtype),
               v = tensor_of(ctx, p.v, p.key_shape(), dtype), g = tensor_of(ctx, p.g, p.query_shape(), dtype);
  const FullAttentionOptions causal = {.causal = true};
  const AttentionResult r = full_attention(ctx, q, k, v, causal);
  const AttentionGrads d = full_attention_backward(ctx, g, q, k, v, r.o, r.lse, causal);
  const auto read = [&ctx](const Tensor& x) { return to_vector<double>(ctx, x); };
  return {read(r.o), read(r.lse), read(d.dq), read(d.dk), read(d.dv)};
}

/// Sizes with few heads and with many, which the backward pass treats in different ways; with one and with
/// several blocks of queries and tiles of keys; with as many keys as queries, and more.
const std::vector<CausalProblem>& causal_problems() {
  static const std::vector<CausalProblem> all = {
      {1, 1, 1, 4, 1},      {2, 1, 9, 3, 5},       {1, 31, 31, 8, 9},   {5, 33, 33, 7, 13},
      {2, 33, 70, 16, 17},  {4, 20, 300, 5, 21},   {1, 97, 97, 33, 25}, {4, 290, 290, 8, 29},
      {1, 330, 330, 8, 33}, {3, 270, 531, 12, 37}, {4, 70, 601, 24, 41}};
  return all;
}

}  // namespace

TEST_CASE("causal: forward and gradients against sums over the pairs, ragged sizes, more keys than queries") {
  Context ctx;
  for (CausalProblem p : causal_problems()) {
    CAPTURE(p.heads);
    CAPTURE(p.n);
    CAPTURE(p.m);
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
      if (dtype == DType::bf16)
        for (Matrix* x : {&p.q, &p.k, &p.v, &p.g})
          for (double& value : *x)
            value = static_cast<double>(static_cast<float>(bf16(static_cast<float>(value))));
      const KernelRun expected = causal_by_hand(p), run = run_causal(ctx, p, dtype);
      const double tolerance = dtype == DType::f64 ? 1e-12 : dtype == DType::f32 ? 1e-5 : 1e-2;
      const auto error = [](const Matrix& a, const Matrix& b) {
        return largest(b) < 0.1 ? largest_difference(a, b) : relative_error(a, b);
      };
      CHECK(error(run.o, expected.o) <= tolerance);
      CHECK(error(run.lse, expected.lse) <= tolerance);
      CHECK(error(run.dq, expected.dq) <= tolerance);
      CHECK(error(run.dk, expected.dk) <= tolerance);
      CHECK(error(run.dv, expected.dv) <= tolerance);
    }
  }
}

TEST_CASE(
    "causal: later tokens change no bit of earlier rows, earlier queries none of later keys' gradients") {
  Context ctx;
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  for (const CausalProblem& p : causal_problems()) {
    CAPTURE(p.heads);
    CAPTURE(p.n);
    CAPTURE(p.m);
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
      const KernelRun before = run_causal(ctx, p, dtype);
      for (const std::int64_t cut : {std::int64_t{0}, p.n / 3, p.n / 2, p.n - 1})
        for (const double value : {nan, inf, 3.0}) {
          const auto replaced = [&](Matrix x, std::int64_t rows, std::int64_t begin, std::int64_t end) {
            for (std::int64_t h = 0; h < p.heads; ++h)
              std::fill(x.begin() + (h * rows + begin) * p.d, x.begin() + (h * rows + end) * p.d, value);
            return x;
          };
          /// Rows [begin, end) of all heads.
          const auto rows_of = [&](const Matrix& x, std::int64_t rows, std::int64_t begin, std::int64_t end) {
            const auto width = static_cast<std::int64_t>(x.size()) / (p.heads * rows);
            Matrix part;
            for (std::int64_t h = 0; h < p.heads; ++h)
              part.insert(part.end(), x.begin() + (h * rows + begin) * width,
                          x.begin() + (h * rows + end) * width);
            return part;
          };
          const std::int64_t key_cut = cut + p.m - p.n;
          CausalProblem later = p;  // queries from `cut` on, and the keys that no query before sees
          later.q = replaced(p.q, p.n, cut, p.n);
          later.g = replaced(p.g, p.n, cut, p.n);
          later.k = replaced(p.k, p.m, key_cut, p.m);
          later.v = replaced(p.v, p.m, key_cut, p.m);
          const KernelRun after = run_causal(ctx, later, dtype);
          CHECK(rows_of(after.o, p.n, 0, cut) == rows_of(before.o, p.n, 0, cut));
          CHECK(rows_of(after.lse, p.n, 0, cut) == rows_of(before.lse, p.n, 0, cut));
          CHECK(rows_of(after.dq, p.n, 0, cut) == rows_of(before.dq, p.n, 0, cut));

          CausalProblem earlier = p;  // queries before `cut`, which do not see the keys from key_cut on
          earlier.q = replaced(p.q, p.n, 0, cut);
          earlier.g = replaced(p.g, p.n, 0, cut);
          const KernelRun spoilt = run_causal(ctx, earlier, dtype);
          CHECK(rows_of(spoilt.dk, p.m, key_cut, p.m) == rows_of(before.dk, p.m, key_cut, p.m));
          CHECK(rows_of(spoilt.dv, p.m, key_cut, p.m) == rows_of(before.dv, p.m, key_cut, p.m));
        }
    }
  }
}

TEST_CASE("causal: equal bits for 1, 2 and 3 threads; half the operations") {
  Context one(1), two(2), three(3);
  for (const CausalProblem& p : causal_problems()) {
    const KernelRun reference = run_causal(one, p, DType::f32);
    for (Context* ctx : {&two, &three}) {
      const KernelRun run = run_causal(*ctx, p, DType::f32);
      CHECK(run.o == reference.o);
      CHECK(run.lse == reference.lse);
      CHECK(run.dq == reference.dq);
      CHECK(run.dk == reference.dk);
      CHECK(run.dv == reference.dv);
    }
  }
  CHECK(full_attention_flops(2, 4, 4, 8, true).forward == 4 * 2 * 10 * 8);
  CHECK(full_attention_flops(2, 4, 6, 8, true).forward == 4 * 2 * 18 * 8);
  CHECK(full_attention_flops(2, 4, 6, 8, true).backward == 10 * 2 * 18 * 8);
  CHECK(full_attention_flops(2, 4, 6, 8).forward == 4 * 2 * 24 * 8);
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
        const LlsaResult r = llsa_attend(ctx, q, k, v, all.indices, plan);
        all.result = {r.o, r.lse};
        all.grads = llsa_attention_backward(ctx, g, *r.state);
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
  CHECK_THROWS_WITH_AS(full_attention(ctx, x, x, x, {.kernels = AttentionKernels::library}),
                       "[full_attention] no library computes this: this build has none for the device cpu",
                       DeviceError);
  const AttentionResult r = full_attention(ctx, x, x, x, {.kernels = AttentionKernels::own});
  CHECK_THROWS_AS(
      full_attention_backward(ctx, x, x, x, x, r.o, r.lse, {.kernels = AttentionKernels::library}),
      DeviceError);
  CHECK_THROWS_AS(full_attention_backward(ctx, ctx.zeros({1, 2, 7, 4}, DType::f32), x, x, x, r.o, r.lse),
                  ShapeError);
  CHECK_THROWS_AS(full_attention_backward(ctx, ctx.zeros({1, 2, 8, 4}, DType::f64), x, x, x, r.o, r.lse),
                  DTypeError);
  const Tensor fewer = ctx.zeros({1, 2, 7, 4}, DType::f32);
  CHECK_THROWS_WITH_AS(full_attention(ctx, x, fewer, fewer, {.causal = true}),
                       "[full_attention] causal: expected at least as many keys as queries, got 7 keys for 8 "
                       "queries",
                       ShapeError);
}

TEST_SUITE_END();

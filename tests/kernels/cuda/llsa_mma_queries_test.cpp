// The half by query of the attention backward on tensor cores, called by itself: dQ against the f64 oracle
// and a plain bf16 implementation, which may not be more than half as wrong.
#include <doctest/doctest.h>

#include "kernels/attention.h"
#include "tests/kernels/cuda/contexts.h"
#include "tests/kernels/cuda/llsa_bf16_reference.h"
#include "tests/kernels/cuda/orders.h"
#include "tests/kernels/cuda/with_words.h"

using namespace llsa;
using namespace llsa::kernels;
using namespace llsa::test;
using llsa::kernels::cuda::attend_plain;
using llsa::kernels::cuda::fits_mma;
using llsa::kernels::cuda::queries_backward_mma;
using llsa::kernels::cuda::queries_backward_plain;
using llsa::kernels::cuda::query_terms;
using llsa::kernels::cuda::QueryTerms;

namespace {

const Device kGpu{DeviceType::cuda, 0};
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

LlsaCase sized(std::int64_t n, std::int64_t d, std::int64_t block, std::int64_t k, int levels, int enriched,
               bool reweight = true) {
  return {n,      d,        block,   std::vector<std::int64_t>(static_cast<std::size_t>(levels), k),
          levels, enriched, reweight};
}

/// Data that bf16 holds exactly.
LlsaProblem problem(const LlsaCase& c, std::int64_t heads, std::uint64_t seed) {
  LlsaProblem p(c, 1, heads, seed);
  for (Matrix* x : {&p.q, &p.k, &p.v, &p.g}) *x = rounded(*x);
  return p;
}

std::vector<PickTable> picks_of(const LlsaProblem& p) {
  std::vector<PickTable> all;
  for (std::int64_t h = 0; h < p.batch * p.heads; ++h)
    all.push_back(oracle_select(p.c, p.head(p.q, h), p.head(p.k, h)));
  return all;
}

/// What the kernels read, in bf16. O and the LSE come from the plain kernel.
struct Inputs {
  Context& gpu;
  LlsaPlan plan;
  std::vector<Tensor> index;
  Tensor d_o;  // [b,H,N,D]
  LlsaState args;
  QueryTerms terms;

  Inputs(Context& ctx, const LlsaProblem& p, const std::vector<PickTable>& picks)
      : gpu(ctx),
        plan(llsa_plan(p.c.n, options_of(p.c))),
        index(indices_of(ctx, p, picks, plan).level),
        d_o(bf16_tensor(p, p.g)),
        args{plan, bf16_tensor(p, p.q), {bf16_tensor(p, p.k)}, {bf16_tensor(p, p.v)}, index} {
    const std::vector<Tensor> k = llsa_pyramid(gpu, args.k[0], plan), v = llsa_pyramid(gpu, args.v[0], plan);
    args.k.insert(args.k.end(), k.begin(), k.begin() + plan.enriched);
    args.v.insert(args.v.end(), v.begin(), v.begin() + plan.enriched);
    const Tensor o = gpu.empty_like(args.q), lse = gpu.empty({p.batch, p.heads, p.c.n}, DType::f32);
    attend_plain(gpu, args, o, lse);
    terms = query_terms(gpu, d_o, o, lse);
  }
  Inputs(const Inputs&) = delete;
  Inputs& operator=(const Inputs&) = delete;

  /// dQ by the tensor-core kernel, or by another.
  Matrix dq(decltype(&queries_backward_mma) kernel = queries_backward_mma) const {
    REQUIRE(fits_mma(args, d_o));
    const Tensor result = gpu.empty_like(d_o);
    fill(gpu, result, kNan);
    kernel(gpu, args, d_o, terms, result);
    return to_vector<double>(gpu, result);
  }

 private:
  Tensor bf16_tensor(const LlsaProblem& p, const Matrix& x) const {
    return tensor_of(gpu, x, p.shape(), DType::bf16);
  }
};

void check(const LlsaProblem& p, const std::vector<PickTable>& picks, double tolerance = 0.02) {
  CAPTURE(p.c.n);
  CAPTURE(p.c.d);
  CAPTURE(p.c.block);
  CAPTURE(p.c.levels);
  CAPTURE(p.c.enriched);
  Context gpu(kGpu);
  Matrix exact;
  for (std::int64_t h = 0; h < p.batch * p.heads; ++h)
    append(exact, oracle_attention(p.c, picks[static_cast<std::size_t>(h)], p.head(p.q, h), p.head(p.k, h),
                                   p.head(p.v, h), p.head(p.g, h))
                      .dq);
  const Matrix plain = run_bf16_reference(p, picks).dq;
  const double error = largest_difference(Inputs(gpu, p, picks).dq(), exact);
  CHECK(error <= 2 * largest_difference(plain, exact) + 1e-6);
  CHECK(error <= tolerance * largest(exact));
}

void check(const LlsaCase& c, std::uint64_t seed, std::int64_t heads = 1) {
  const LlsaProblem p = problem(c, heads, seed);
  const std::vector<PickTable> picks = picks_of(p);
  check(p, picks);
  if (c.levels < 2) return;
  Context gpu(kGpu);
  Inputs in(gpu, p, picks);
  const Matrix by_rows = in.dq();
  in.args.words = words_of(gpu, in.plan, in.index);
  CHECK(in.dq() == by_rows);
  fill(gpu, in.args.words[0], 0);
  CHECK(in.dq() != by_rows);  // words are what was read
}

}  // namespace

TEST_SUITE_BEGIN("kernels/cuda/llsa_mma_queries");

TEST_CASE("blocks of 16, D = 32, 64, 128: ragged N, odd K, L_e, re-weighting off") {
  if (!cuda_device()) return;
  check(sized(300, 64, 16, 3, 2, 2), 1, 2);
  check(sized(523, 32, 16, 5, 2, 1), 2);
  check(sized(257, 128, 16, 2, 2, 2, false), 3);
  check(sized(290, 64, 16, 2, 2, 0), 4);
  check(sized(1200, 32, 16, 4, 1, 1), 5);           // n_1 = 75: a second, partly filled tile
  check({4200, 32, 16, {1, 2, 1}, 3, 2, true}, 6);  // three levels, the coarsest not attended
  check({300, 128, 16, {3, 1}, 2, 1, true}, 7);     // odd number of 16-key blocks at level 1
  check(sized(31, 64, 16, 100, 1, 1), 8);           // more picks than blocks
  check(sized(17, 128, 16, 1, 1, 1), 9);
}

TEST_CASE("blocks of 32 and 64, whose warps share fine keys") {
  if (!cuda_device()) return;
  check(sized(300, 64, 32, 2, 1, 1), 11, 2);  // the last block fills one of its two warps
  check(sized(1100, 32, 32, 3, 2, 2), 12);
  check(sized(270, 128, 32, 3, 1, 1), 13);
  check(sized(85, 32, 64, 2, 1, 1), 14);  // 21 tokens in the last block
  check(sized(333, 128, 64, 2, 1, 1), 15);
  check(sized(700, 64, 64, 3, 1, 0), 16);
}

TEST_CASE("full attention") {
  if (!cuda_device()) return;
  check(sized(77, 32, 16, 1, 0, 0), 21);
  check(sized(140, 64, 16, 1, 0, 0), 22, 2);
  check(sized(40, 128, 16, 1, 0, 0), 23);
  check(sized(64, 64, 16, 1, 0, 0), 24);
}

TEST_CASE("full attention with more or fewer keys than queries") {
  if (!cuda_device()) return;
  Context gpu(kGpu);
  for (std::int64_t keys : {1, 45, 200}) {
    CAPTURE(keys);
    const Shape q_shape{2, 1, 70, 64}, k_shape{2, 1, keys, 64};
    const auto data = [](const Shape& shape, std::uint64_t seed) {
      return rounded(random_matrix(shape.numel(), seed));
    };
    const auto dq = [&](DType dtype) {
      const Tensor q = tensor_of(gpu, data(q_shape, 1), q_shape, dtype),
                   k = tensor_of(gpu, data(k_shape, 2), k_shape, dtype),
                   v = tensor_of(gpu, data(k_shape, 3), k_shape, dtype),
                   g = tensor_of(gpu, data(q_shape, 4), q_shape, dtype);
      if (dtype == DType::bf16) {
        LlsaPlan plan;
        plan.tokens = q_shape[2];
        plan.count = {keys};
        const std::vector<Tensor> no_index;
        REQUIRE(fits_mma({plan, q, {k}, {v}, no_index}, g));
      }
      const AttentionResult r = full_attention(gpu, q, k, v);
      return to_vector<double>(gpu, full_attention_backward(gpu, g, q, k, v, r.o, r.lse).dq);
    };
    const Matrix exact = dq(DType::f64);
    CHECK(largest_difference(dq(DType::bf16), exact) <= std::max(0.01 * largest(exact), 0.01));
  }
}

TEST_CASE("short and empty lists of picks") {
  if (!cuda_device()) return;
  for (std::int64_t block : {16, 32}) {
    const LlsaProblem p = problem(sized(41 * block / 2 + 3, 64, block, 3, 1, 1), 1, 31);
    std::vector<PickTable> picks = picks_of(p);
    auto& rows = picks[0][1];
    rows[0].resize(1);
    rows[2].clear();
    rows[3] = {2, static_cast<std::int64_t>(rows.size()) - 1};  // the last block, partly filled
    rows.back().clear();
    check(p, picks);
  }
  // An empty list at a coarse level, and fine picks that are not below the coarse ones.
  const LlsaProblem p = problem({600, 32, 16, {2, 2}, 2, 1, true}, 1, 32);
  std::vector<PickTable> picks = picks_of(p);
  picks[0][2][0].clear();
  picks[0][2][1].resize(1);
  check(p, picks);
}

TEST_CASE("a query without any key gets no gradient") {
  if (!cuda_device()) return;
  const LlsaProblem p = problem(sized(100, 64, 16, 2, 1, 0), 1, 33);
  std::vector<PickTable> picks = picks_of(p);
  picks[0][1][3].clear();
  Context gpu(kGpu);
  const Matrix dq = Inputs(gpu, p, picks).dq();
  for (std::size_t i = 0; i < dq.size(); ++i) {
    if (i / 64 / 16 == 3)
      REQUIRE(dq[i] == 0);
    else
      REQUIRE(std::isfinite(dq[i]));
  }
}

TEST_CASE("sharp softmax: one key takes nearly all") {
  if (!cuda_device()) return;
  LlsaProblem p = problem(sized(300, 64, 16, 3, 2, 2), 1, 41);
  for (double& x : p.q) x *= 8;
  check(p, picks_of(p));
}

TEST_CASE("scores so low that 2^-LSE overflows: nothing comes from the places behind the last key") {
  if (!cuda_device()) return;
  for (const LlsaCase& c :
       {sized(85, 64, 16, 2, 1, 1), sized(85, 64, 32, 2, 1, 1), sized(77, 64, 16, 1, 0, 0)}) {
    LlsaProblem p = problem(c, 1, 45);
    for (std::size_t i = 0; i < p.q.size(); i += 64) {
      p.q[i] = -64;
      p.k[i] = 32;  // of which dS, rounded, should add up to nothing
    }
    check(p, picks_of(p), 0.1);
  }
}

TEST_CASE("equal bits in all lane and block orders") {
  if (!cuda_device()) return;
  for (const LlsaCase& c : {sized(300, 64, 16, 3, 2, 2), sized(300, 32, 32, 2, 1, 1),
                            sized(333, 128, 64, 2, 1, 1), sized(100, 32, 16, 1, 0, 0)}) {
    CAPTURE(c.block);
    const LlsaProblem p = problem(c, 2, 51);
    const std::vector<PickTable> picks = picks_of(p);
    for_all_orders([&] {
      Context gpu(kGpu);
      return Inputs(gpu, p, picks).dq();
    });
  }
}

TEST_CASE("a NaN in a query or its gradient stays in its row") {
  if (!cuda_device()) return;
  const LlsaProblem p = problem(sized(128, 32, 32, 2, 1, 1), 1, 61);
  const std::vector<PickTable> picks = picks_of(p);
  for (Matrix LlsaProblem::*where : {&LlsaProblem::q, &LlsaProblem::g}) {
    LlsaProblem bad = p;
    (bad.*where)[32 * 37 + 5] = kNan;
    Context gpu(kGpu);
    const Matrix dq = Inputs(gpu, bad, picks).dq();
    for (std::size_t i = 0; i < dq.size(); ++i) REQUIRE(std::isnan(dq[i]) == (i / 32 == 37));
  }
}

TEST_CASE("the backward pass uses this kernel where it fits, and the plain one for misaligned rows") {
  if (!cuda_device()) return;
  Context gpu(kGpu);
  const LlsaProblem p = problem(sized(150, 32, 16, 2, 1, 1), 2, 71);
  Inputs in(gpu, p, picks_of(p));
  const LlsaIndices indices = {in.index};
  const LlsaResult r = llsa_attend(gpu, in.args.q, in.args.k[0], in.args.v[0], indices, in.plan);
  in.terms = query_terms(gpu, in.d_o, r.o, r.lse);
  const Matrix mma = in.dq(), plain = in.dq(queries_backward_plain);
  REQUIRE(mma != plain);
  const auto dispatched = [&](const Tensor& d_o) {
    return to_vector<double>(gpu, llsa_attention_backward(gpu, d_o, *r.state).dq);
  };
  CHECK(dispatched(in.d_o) == mma);
  const Tensor padded = gpu.empty({1, 2, 150, 33}, DType::bf16).slice(3, 1, 33);  // rows of 66 bytes
  copy(gpu, in.d_o, padded);
  CHECK(!fits_mma(in.args, padded));
  CHECK(dispatched(padded) == plain);
}

TEST_SUITE_END();

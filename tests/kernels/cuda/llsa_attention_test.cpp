// The CUDA kernels of LLSA attention against the dense oracle, the CPU backend, and a plain bf16
// implementation.
#include <doctest/doctest.h>

#include <algorithm>

#include "autograd/attention.h"
#include "autograd/node.h"
#include "core/safetensors.h"
#include "tests/kernels/cuda/contexts.h"
#include "tests/kernels/cuda/llsa_bf16_reference.h"
#include "tests/kernels/cuda/orders.h"
#include "tests/kernels/cuda/with_words.h"
#include "tests/support/llsa_run.h"

using namespace llsa;
using namespace llsa::kernels;
using namespace llsa::test;

namespace {

const Device kGpu{DeviceType::cuda, 0};

LlsaIndices moved(Context& from, const LlsaIndices& indices, Context& to) {
  LlsaIndices result;
  for (const Tensor& level : indices.level) result.level.push_back(transfer(from, level, to));
  return result;
}

void capture_check(const KernelRun& found, const KernelRun& expected, double tolerance) {
  // Where nearly all attended values are the same, gradients cancel to far less than dO: an absolute bound.
  const auto error = [](const Matrix& a, const Matrix& b) {
    return largest(b) < 0.1 ? largest_difference(a, b) : relative_error(a, b);
  };
  CHECK(relative_error(found.o, expected.o) <= tolerance);
  CHECK(relative_error(found.lse, expected.lse) <= tolerance);
  CHECK(error(found.dq, expected.dq) <= tolerance);
  CHECK(error(found.dk, expected.dk) <= tolerance);
  CHECK(error(found.dv, expected.dv) <= tolerance);
}

/// Against the CPU backend, both with the CPU's indices.
void check_against_cpu(const LlsaProblem& p) {
  CAPTURE(p.c.n);
  CAPTURE(p.c.d);
  CAPTURE(p.c.block);
  CAPTURE(p.c.levels);
  CAPTURE(p.c.enriched);
  Context cpu, gpu(kGpu);
  const LlsaPlan plan = llsa_plan(p.c.n, options_of(p.c));
  for (DType dtype : {DType::f32, DType::f64}) {
    const LlsaIndices indices =
        llsa_select(cpu, tensor_of(cpu, p.q, p.shape(), dtype), tensor_of(cpu, p.k, p.shape(), dtype), plan);
    capture_check(run_kernels(gpu, p, moved(cpu, indices, gpu), plan, dtype),
                  run_kernels(cpu, p, indices, plan, dtype), dtype == DType::f32 ? 1e-5 : 1e-11);
  }
}

void check_same_bits(const KernelRun& found, const KernelRun& expected) {
  CHECK(found.o == expected.o);
  CHECK(found.lse == expected.lse);
  CHECK(found.dq == expected.dq);
  CHECK(found.dk == expected.dk);
  CHECK(found.dv == expected.dv);
}

/// bf16 against the f64 oracle: at most twice the error of a plain bf16 implementation. With bit words where
/// there are several levels.
void check_bf16(LlsaProblem p) {
  CAPTURE(p.c.n);
  CAPTURE(p.c.d);
  CAPTURE(p.c.block);
  CAPTURE(p.c.levels);
  CAPTURE(p.c.enriched);
  for (Matrix* x : {&p.q, &p.k, &p.v, &p.g})
    for (double& value : *x) value = rounded(value);
  Context gpu(kGpu);
  const LlsaPlan plan = llsa_plan(p.c.n, options_of(p.c));
  const OracleAll exact = run_oracle(p);
  const KernelRun plain = run_bf16_reference(p, exact.picks);
  const LlsaIndices indices = indices_of(gpu, p, exact.picks, plan);
  const std::vector<Tensor> words = words_of(gpu, plan, indices.level);
  REQUIRE(words.empty() == (plan.levels < 2));
  const KernelRun found = run_with_words(gpu, p, indices, words, plan, DType::bf16);
  const auto at_most_twice = [](const Matrix& f, const Matrix& b, const Matrix& e) {
    CHECK(largest_difference(f, e) <= 2 * largest_difference(b, e) + 1e-6);
  };
  at_most_twice(found.o, plain.o, exact.result.o);
  at_most_twice(found.lse, plain.lse, exact.result.lse);
  at_most_twice(found.dq, plain.dq, exact.result.dq);
  at_most_twice(found.dk, plain.dk, exact.result.dk);
  at_most_twice(found.dv, plain.dv, exact.result.dv);
}

LlsaCase sized(std::int64_t n, std::int64_t d, std::int64_t block, std::int64_t k, int levels, int enriched,
               bool reweight = true) {
  return {n,      d,        block,   std::vector<std::int64_t>(static_cast<std::size_t>(levels), k),
          levels, enriched, reweight};
}

/// All queries choose one block: its keys point where all queries do.
LlsaProblem crowded(const LlsaCase& c, std::int64_t block) {
  LlsaProblem p(c, 1, 2, 1);
  for (std::size_t i = 0; i < p.k.size(); ++i) {
    p.q[i] = std::abs(p.q[i]);
    const auto token = static_cast<std::int64_t>(i) / c.d % c.n;
    if (token / c.block == block) p.k[i] += 5;
  }
  return p;
}

}  // namespace

TEST_SUITE_BEGIN("kernels/cuda/llsa_attention");

TEST_CASE("f32 and f64: ragged sizes, several B, K, L, L_e, D, re-weighting on and off") {
  if (!cuda_device()) return;
  std::uint64_t seed = 0;
  const std::vector<std::int64_t> ds = {8, 1, 5, 33};
  for (std::int64_t block : {2, 3, 16, 17})
    for (std::int64_t n : {std::int64_t{1}, block - 1, block + 1, block * block - 1, std::int64_t{113}})
      for (int levels = 0; levels <= 3; ++levels) {
        ++seed;
        const LlsaCase c =
            sized(n, ds[seed % 4], block, seed % 3 == 0 ? 1000 : 1 + static_cast<std::int64_t>(seed % 3),
                  levels, static_cast<int>(seed) % (levels + 1), seed % 4 != 0);
        if (levels > 0 && c.count(levels - 1) == 1) continue;
        check_against_cpu(LlsaProblem(c, 1, 1 + static_cast<std::int64_t>(seed % 2), seed));
      }
  check_against_cpu(LlsaProblem({131, 8, 4, {3, 2, 5}, 3, 3, true}, 2, 2, 1));
  check_against_cpu(LlsaProblem({131, 8, 4, {1, 2, 3}, 3, 1, false}, 1, 2, 2));
  check_against_cpu(LlsaProblem({300, 16, 16, {3, 3}, 2, 2, true}, 1, 1, 3));
  check_against_cpu(crowded({300, 6, 4, {2, 2}, 2, 2, true}, 42));
}

TEST_CASE("blocks too large for bit words of their children: lists by key from the counting sort") {
  if (!cuda_device()) return;
  check_against_cpu(LlsaProblem({4300, 4, 65, {2, 1}, 2, 2, true}, 1, 2, 4));
  check_against_cpu(LlsaProblem({4300, 3, 65, {1, 2}, 2, 0, true}, 2, 1, 5));
}

TEST_CASE("more heads than a grid has room for") {
  if (!cuda_device()) return;
  Context gpu(kGpu);
  const Tensor x = gpu.empty(Shape{1 << 15, 2, 1, 2}, DType::f32);
  CHECK_THROWS_WITH_AS(kernels::full_attention(gpu, x, x, x),
                       "[cuda] expected at most 65535 heads over all samples, got 65536", ShapeError);
}

TEST_CASE("golden vectors: indices, f32 to 2e-5") {
  if (!cuda_device()) return;
  Context cpu, gpu(kGpu);
  const SafetensorsFile file(LLSA_SOURCE_DIR "/tests/golden/llsa.safetensors");
  for (int number = 0; number < 5; ++number) {
    CAPTURE(number);
    const auto get = [&](const std::string& name) {
      return file.at("c" + std::to_string(number) + "_" + name);
    };
    const auto cfg = to_vector<std::int32_t>(cpu, get("cfg"));  // side n, B, K, L, H, D
    if (cfg[0] > 32) continue;                                  // minutes in the emulator
    LlsaOptions options;
    options.block = cfg[1];
    options.topk = {cfg[2]};
    options.levels = cfg[3];
    const LlsaPlan plan = llsa_plan(static_cast<std::int64_t>(cfg[0]) * cfg[0], options);
    const auto on_gpu = [&](const char* name) {
      return transfer(cpu, cast(cpu, get(name), DType::f32), gpu);
    };
    const Tensor q = on_gpu("q"), k = on_gpu("k"), v = on_gpu("v"), g = on_gpu("g");
    const LlsaIndices picked = llsa_select(gpu, q, k, plan);
    for (std::size_t l = 0; l < picked.level.size(); ++l)
      CHECK(to_vector<std::int32_t>(gpu, picked.level[l]) ==
            to_vector<std::int32_t>(cpu, get("I" + std::to_string(l + 1))));
    const LlsaResult r = llsa_attend(gpu, q, k, v, picked, plan);
    const AttentionGrads d = llsa_attention_backward(gpu, g, *r.state);
    const auto close = [&](const Tensor& x, const char* name) {
      CAPTURE(name);
      CHECK(relative_error(to_vector<double>(gpu, x), to_vector<double>(cpu, get(name))) <= 2e-5);
    };
    close(r.o, "o");
    close(r.lse, "lse");
    close(d.dq, "dq");
    close(d.dk, "dk");
    close(d.dv, "dv");
  }
}

TEST_CASE("bf16 in blocks of 16, D = 32, 64, 128: ragged N, odd K, L_e, re-weighting off") {
  if (!cuda_device()) return;
  check_bf16(LlsaProblem(sized(300, 64, 16, 3, 2, 2), 1, 2, 1));
  check_bf16(LlsaProblem(sized(523, 32, 16, 5, 2, 1), 1, 1, 2));
  check_bf16(LlsaProblem(sized(257, 128, 16, 2, 2, 2, false), 1, 1, 3));
  check_bf16(LlsaProblem(sized(290, 64, 16, 2, 2, 0), 1, 1, 4));
  check_bf16(LlsaProblem(sized(1200, 32, 16, 4, 1, 1), 1, 1, 5));  // n_1 = 75: a second, partly filled tile
  check_bf16(LlsaProblem({4200, 32, 16, {1, 2, 1}, 3, 3, true}, 1, 1, 6));  // three levels
  check_bf16(LlsaProblem(sized(31, 64, 16, 100, 1, 1), 1, 1, 7));
}

TEST_CASE("bf16, small and native: every kernel of two levels, D = 64 and 128") {
  if (!cuda_device()) return;
  check_bf16(LlsaProblem(sized(290, 64, 16, 2, 2, 2), 1, 1, 61));
  check_bf16(LlsaProblem(sized(273, 128, 16, 1, 2, 2), 1, 1, 62));
  check_bf16(LlsaProblem(sized(85, 64, 64, 2, 1, 1), 1, 1, 66));  // four warps meet over fine keys
}

TEST_CASE("bf16: 8, 20 and 64 picks") {
  if (!cuda_device()) return;
  check_bf16(LlsaProblem(sized(600, 64, 16, 8, 2, 2), 1, 1, 63));
  check_bf16(LlsaProblem(sized(700, 32, 16, 20, 1, 1), 1, 1, 64));
  check_bf16(LlsaProblem(sized(1100, 32, 16, 64, 1, 1), 1, 1, 65));
}

TEST_CASE("bf16 in blocks of 32 and 64, whose warps share fine keys") {
  if (!cuda_device()) return;
  check_bf16(LlsaProblem(sized(300, 64, 32, 2, 1, 1), 1, 1, 11));  // the last block fills one of two warps
  check_bf16(LlsaProblem(sized(1100, 32, 32, 2, 2, 2), 1, 1, 12));
  check_bf16(LlsaProblem(sized(333, 32, 64, 2, 1, 1), 1, 1, 13));
  check_bf16(LlsaProblem(sized(270, 128, 32, 3, 1, 0), 1, 1, 14));
  check_bf16(LlsaProblem(sized(333, 128, 64, 3, 1, 1), 1, 1, 15));
  check_bf16(LlsaProblem(sized(85, 64, 64, 2, 1, 1), 1, 1, 16));
}

TEST_CASE("bf16: scores that rise or fall along the keys, by little and by much") {
  if (!cuda_device()) return;
  Context gpu(kGpu);
  for (double slope : {0.125, 0.5, 4.0}) {  // of the logit per key; the forward looks at 32 keys at a time
    CAPTURE(slope);
    LlsaProblem p(sized(250, 64, 16, 1, 0, 0), 1, 1, 71);
    for (std::size_t i = 0; i < p.q.size(); ++i) {
      const auto token = static_cast<double>(i / 64);
      p.q[i] = i % 64 == 0 ? (i / 64 % 2 == 0 ? 8 : -8) : rounded(p.q[i] / 8);
      p.k[i] = i % 64 == 0 ? slope * token : rounded(p.k[i] / 8);
      p.v[i] = rounded(p.v[i]);
    }
    const OracleResult exact = run_oracle(p).result;
    const KernelRun found = run_kernels(gpu, p, {}, llsa_plan(p.c.n, options_of(p.c)), DType::bf16);
    CHECK(relative_error(found.o, exact.o) <= 1e-2);
    CHECK(relative_error(found.lse, exact.lse) <= 1e-5);
  }
}

/// By words and by rows, bf16: the same bits for the picks that llsa_select makes. Without its bits a fine
/// block is not attended, which shows whether the words were read.
void check_words_against_rows(const LlsaProblem& p, bool words_are_read = true) {
  CAPTURE(p.c.n);
  CAPTURE(p.c.d);
  CAPTURE(p.c.block);
  CAPTURE(p.c.topk[0]);
  Context gpu(kGpu);
  const LlsaPlan plan = llsa_plan(p.c.n, options_of(p.c));
  const auto tensor = [&](const Matrix& x) { return tensor_of(gpu, x, p.shape(), DType::bf16); };
  const LlsaResult op = llsa_attention(gpu, tensor(p.q), tensor(p.k), tensor(p.v), options_of(p.c));
  const LlsaIndices indices = llsa_indices(*op.state);
  std::vector<Tensor> words = op.state->words;
  REQUIRE(words.size() + 1 == indices.level.size());
  const KernelRun by_rows = run_kernels(gpu, p, indices, plan, DType::bf16);
  check_same_bits(run_with_words(gpu, p, indices, words, plan, DType::bf16), by_rows);
  CHECK(to_vector<double>(gpu, op.o) == by_rows.o);
  fill(gpu, words[0], 0);
  const KernelRun without = run_with_words(gpu, p, indices, words, plan, DType::bf16);
  CHECK((without.o != by_rows.o) == words_are_read);
  CHECK((without.dq != by_rows.dq) == words_are_read);
  CHECK(without.dk != by_rows.dk);  // lists by key come from words in any case
}

TEST_CASE("bf16: fine blocks by words give the bits that they give by rows") {
  if (!cuda_device()) return;
  check_words_against_rows(LlsaProblem(sized(600, 64, 16, 8, 2, 2), 1, 2, 81));
  check_words_against_rows(LlsaProblem(sized(700, 32, 32, 5, 2, 2), 1, 1, 82));
  check_words_against_rows(LlsaProblem(sized(900, 32, 64, 8, 2, 2), 1, 1, 83));  // two query blocks per block
  check_words_against_rows(LlsaProblem(sized(600, 128, 64, 7, 2, 1), 1, 1, 84));  // one
  check_words_against_rows(LlsaProblem(sized(600, 128, 16, 20, 2, 2), 1, 1, 85));
  check_words_against_rows(LlsaProblem({700, 32, 16, {7, 3, 2}, 3, 3, true}, 1, 1, 86));
  check_words_against_rows(LlsaProblem(sized(1130, 32, 16, 70, 2, 1), 1, 1, 88), false);  // too many picks
  check_words_against_rows(crowded(sized(900, 32, 16, 1, 2, 2), 20));                     // all pick the same
}

TEST_CASE("bf16: the longest list of what siblings picked, and words that say more than it holds") {
  if (!cuda_device()) return;
  Context gpu(kGpu);
  const LlsaProblem p({8200, 32, 16, {64, 33}, 2, 0, true}, 1, 1, 91);
  const LlsaPlan plan = llsa_plan(p.c.n, options_of(p.c));
  REQUIRE(plan.width == std::vector<int>{64, 33});
  // Query blocks 0 to 7 pick 512 key blocks, each its own 64; the others one.
  PickTable picks(3);
  for (std::int64_t i = 0; i < plan.count[2]; ++i) {
    picks[2].emplace_back();
    for (std::int64_t j = 0; j < plan.count[2]; ++j) picks[2].back().push_back(j);
  }
  for (std::int64_t i = 0; i < plan.count[1]; ++i) {
    picks[1].emplace_back();
    for (std::int64_t s = 0; i < 8 && s < 64; ++s) picks[1].back().push_back(8 * s + (i + s) % 8);
    if (i >= 8) picks[1].back().push_back(i * 7 % plan.count[1]);
  }
  const LlsaIndices indices = indices_of(gpu, p, {picks}, plan);
  const std::vector<Tensor> words = words_of(gpu, plan, indices.level);
  const auto forward_of = [&](const std::vector<Tensor>& with) {
    const auto bf16_of = [&](const Matrix& x) { return tensor_of(gpu, x, p.shape(), DType::bf16); };
    LlsaState state = {plan, bf16_of(p.q), {bf16_of(p.k)}, {bf16_of(p.v)}, indices.level, with};
    const AttentionResult r = empty_attention(gpu, state.q);
    state.o = r.o;
    state.lse = r.lse;
    kernels::cuda::llsa_attention(gpu, state);
    Matrix all = to_vector<double>(gpu, r.o);
    append(all, to_vector<double>(gpu, r.lse));
    return all;
  };
  const Matrix by_words = forward_of(words);
  CHECK(by_words == forward_of({}));
  fill(gpu, words[0].slice(2, 0, 1), 255);  // the first parent's children everything: cut at 512
  const Matrix too_many = forward_of(words);
  CHECK(std::all_of(too_many.begin(), too_many.end(), [](double x) { return std::isfinite(x); }));
  CHECK(too_many != by_words);
}

TEST_CASE("bf16: siblings that picked nothing, by words") {
  if (!cuda_device()) return;
  Context gpu(kGpu);
  const LlsaProblem p(sized(600, 32, 16, 3, 2, 2), 1, 1, 93);
  const LlsaPlan plan = llsa_plan(p.c.n, options_of(p.c));
  std::vector<PickTable> picks = run_oracle(p).picks;
  for (std::size_t i = 8; i < 16; ++i) picks[0][1][i].clear();  // a thread block's
  picks[0][1][20].clear();
  const LlsaIndices indices = indices_of(gpu, p, picks, plan);
  check_same_bits(run_with_words(gpu, p, indices, words_of(gpu, plan, indices.level), plan, DType::bf16),
                  run_kernels(gpu, p, indices, plan, DType::bf16));
}

TEST_CASE("the differentiable op keeps the words for its backward pass") {
  if (!cuda_device()) return;
  Context gpu(kGpu);
  const LlsaProblem p(sized(300, 32, 16, 3, 2, 2), 1, 2, 90);
  for (DType dtype : {DType::f32, DType::bf16}) {
    std::vector<Var> x;
    for (const Matrix* data : {&p.q, &p.k, &p.v})
      x.emplace_back(gpu, tensor_of(gpu, *data, p.shape(), dtype), true);
    const LlsaResult op =
        kernels::llsa_attention(gpu, x[0].value(), x[1].value(), x[2].value(), options_of(p.c));
    const auto gradients = [&](bool spoil) {
      for (Var& leaf : x) leaf.zero_grad();
      const Var o = llsa_attention(x[0], x[1], x[2], options_of(p.c));
      const std::vector<Tensor>& saved = o.node()->saved;  // the state's words come last
      REQUIRE(saved.back().shape() == op.state->words.at(0).shape());
      if (spoil) fill(gpu, saved.back(), 0);
      backward(o, tensor_of(gpu, p.g, p.shape(), dtype));
      Matrix all;
      for (const Var& leaf : x) append(all, to_vector<double>(gpu, leaf.grad()));
      return all;
    };
    const AttentionGrads d = llsa_attention_backward(gpu, tensor_of(gpu, p.g, p.shape(), dtype), *op.state);
    Matrix expected;
    for (const Tensor& grad : {d.dq, d.dk, d.dv}) append(expected, to_vector<double>(gpu, grad));
    CHECK(gradients(false) == expected);
    CHECK(gradients(true) != expected);  // of words that say nothing
  }
}

TEST_CASE("bf16 that the tensor-core kernels do not cover") {
  if (!cuda_device()) return;
  check_bf16(LlsaProblem(sized(100, 24, 16, 2, 1, 1), 1, 1, 21));
  check_bf16(LlsaProblem(sized(100, 32, 5, 2, 2, 2), 1, 1, 22));
}

TEST_CASE("bf16: a block that all queries pick, others that none picks") {
  if (!cuda_device()) return;
  check_bf16(crowded(sized(1500, 32, 16, 1, 1, 1), 40));
  check_bf16(crowded(sized(600, 32, 16, 2, 2, 2), 20));
}

TEST_CASE("equal bits in all lane and block orders") {
  if (!cuda_device()) return;
  const auto check_orders = [](const LlsaProblem& p, DType dtype) {
    for_all_orders([&] {
      Context gpu(kGpu);
      const Tensor q = tensor_of(gpu, p.q, p.shape(), dtype), k = tensor_of(gpu, p.k, p.shape(), dtype);
      const LlsaResult r = llsa_attention(gpu, q, k, tensor_of(gpu, p.v, p.shape(), dtype), options_of(p.c));
      const AttentionGrads d = llsa_attention_backward(gpu, tensor_of(gpu, p.g, p.shape(), dtype), *r.state);
      Matrix all;
      for (const Tensor& x : {r.o, r.lse, d.dq, d.dk, d.dv}) append(all, to_vector<double>(gpu, x));
      return all;
    });
  };
  check_orders(LlsaProblem(sized(300, 32, 16, 3, 2, 2), 1, 2, 31), DType::f32);
  check_orders(LlsaProblem(sized(300, 32, 16, 3, 2, 2), 1, 2, 31), DType::bf16);
  check_orders(LlsaProblem(sized(600, 32, 16, 8, 2, 0), 1, 1, 34), DType::bf16);  // rounds of a ring of words
  check_orders(LlsaProblem(sized(1100, 32, 32, 5, 2, 0), 1, 1, 35), DType::bf16);
  check_orders(LlsaProblem(sized(300, 64, 32, 3, 1, 1), 1, 1, 32), DType::bf16);
  check_orders(LlsaProblem(sized(333, 64, 64, 2, 1, 1), 1, 1, 33), DType::bf16);
}

TEST_CASE("strided views give the bits of contiguous tensors") {
  if (!cuda_device()) return;
  Context gpu(kGpu);
  const LlsaProblem p(sized(85, 32, 16, 2, 1, 1), 2, 2, 51);
  const LlsaPlan plan = llsa_plan(p.c.n, options_of(p.c));
  for (DType dtype : {DType::f32, DType::bf16}) {
    const auto merged_view = [&](const Matrix& x) {
      return contiguous(gpu, tensor_of(gpu, x, p.shape(), dtype).transpose(1, 2)).transpose(1, 2);
    };
    const Tensor q = merged_view(p.q), k = merged_view(p.k), v = merged_view(p.v), g = merged_view(p.g);
    const LlsaIndices indices = llsa_select(gpu, q, k, plan);
    const LlsaResult r = llsa_attend(gpu, q, k, v, indices, plan);
    const AttentionGrads d = llsa_attention_backward(gpu, g, *r.state);
    const KernelRun run = run_kernels(gpu, p, indices, plan, dtype);
    CHECK(to_vector<double>(gpu, r.o) == run.o);
    CHECK(to_vector<double>(gpu, d.dq) == run.dq);
    CHECK(to_vector<double>(gpu, d.dk) == run.dk);
    CHECK(to_vector<double>(gpu, d.dv) == run.dv);
  }
}

TEST_CASE("a NaN stays where it belongs") {
  if (!cuda_device()) return;
  Context gpu(kGpu);
  LlsaProblem p(sized(128, 32, 16, 2, 1, 0), 1, 1, 61);
  const LlsaPlan plan = llsa_plan(p.c.n, options_of(p.c));
  const PickTable picks = run_oracle(p).picks[0];
  const LlsaIndices indices = indices_of(gpu, p, {picks}, plan);
  for (DType dtype : {DType::f32, DType::bf16}) {
    LlsaProblem bad = p;
    bad.q[32 * 10] = std::numeric_limits<double>::quiet_NaN();
    KernelRun run = run_kernels(gpu, bad, indices, plan, dtype);
    for (std::size_t i = 0; i < run.o.size(); ++i) REQUIRE(std::isnan(run.o[i]) == (i / 32 == 10));
    bad = p;
    bad.v[32 * 21 + 2] = std::numeric_limits<double>::quiet_NaN();  // block 1, element 2
    run = run_kernels(gpu, bad, indices, plan, dtype);
    for (std::size_t i = 0; i < run.o.size(); ++i) {
      const auto& row = picks[1][i / 512];
      REQUIRE(std::isnan(run.o[i]) == (i % 32 == 2 && std::count(row.begin(), row.end(), 1) > 0));
    }
  }
}

TEST_SUITE_END();

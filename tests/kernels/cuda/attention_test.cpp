// Full attention on a CUDA device against the CPU backend and, in bf16, a plain bf16 implementation.
#include <doctest/doctest.h>

#include <limits>
#include <utility>
#include <vector>

#include "kernels/attention.h"
#include "kernels/copy.h"
#include "tests/kernels/cuda/contexts.h"
#include "tests/kernels/cuda/llsa_bf16_reference.h"
#include "tests/kernels/cuda/orders.h"
#include "tests/support/kernels.h"

using namespace llsa;
using namespace llsa::kernels;
using namespace llsa::test;

namespace {

const Device kGpu{DeviceType::cuda, 0};

/// o, lse, dq, dk, dv from the same inputs, which are rounded to `inputs` first.
std::vector<Values> run(Context& ctx, const Shape& q_shape, const Shape& k_shape, DType inputs, DType dtype,
                        const FullAttentionOptions& options = {}) {
  Context cpu;
  const auto make = [&](const Shape& shape, std::uint64_t seed) {
    return transfer(cpu, cast(cpu, random_tensor(cpu, shape, inputs, seed), dtype), ctx);
  };
  const Tensor q = make(q_shape, 1), k = make(k_shape, 2), v = make(k_shape, 3), g = make(q_shape, 4);
  const AttentionResult r = full_attention(ctx, q, k, v, options);
  const AttentionGrads d = full_attention_backward(ctx, g, q, k, v, r.o, r.lse, options);
  return {values_of(ctx, r.o), values_of(ctx, r.lse), values_of(ctx, d.dq), values_of(ctx, d.dk),
          values_of(ctx, d.dv)};
}

/// The same by a plain bf16 implementation.
std::vector<Values> run_plain(const Shape& q_shape, const Shape& k_shape) {
  Context cpu;
  const auto make = [&](const Shape& shape, std::uint64_t seed) {
    return values_of(cpu, random_tensor(cpu, shape, DType::bf16, seed));
  };
  const Values q = make(q_shape, 1), k = make(k_shape, 2), v = make(k_shape, 3), g = make(q_shape, 4);
  const std::int64_t heads = q_shape[0] * q_shape[1];
  const auto part = [&](const Values& x, std::int64_t head) {
    const auto size = static_cast<std::ptrdiff_t>(x.size()) / heads;
    return Values(x.begin() + head * size, x.begin() + (head + 1) * size);
  };
  const LlsaCase no_levels = {k_shape[2], k_shape[3], 2, {}, 0, 0, true};
  KernelRun all;
  for (std::int64_t h = 0; h < heads; ++h)
    append_bf16_head(all, no_levels, {}, part(q, h), part(k, h), part(v, h), part(g, h));
  return {all.o, all.lse, all.dq, all.dk, all.dv};
}

}  // namespace

TEST_SUITE_BEGIN("kernels/cuda/attention");

TEST_CASE("f32 and f64 of any shape") {
  if (!cuda_device()) return;
  Context cpu, gpu(kGpu);
  for (const auto& [q, k] : {std::pair<Shape, Shape>{{1, 1, 1, 1}, {1, 1, 1, 1}},
                             {{2, 2, 33, 7}, {2, 2, 65, 7}},
                             {{1, 3, 70, 64}, {1, 3, 31, 64}},
                             {{1, 1, 5, 130}, {1, 1, 40, 130}}})
    for (DType dtype : {DType::f32, DType::f64}) {
      const auto found = run(gpu, q, k, dtype, dtype), expected = run(cpu, q, k, dtype, dtype);
      for (std::size_t i = 0; i < found.size(); ++i) {
        CAPTURE(i);
        CHECK(deviation(found[i], expected[i]) <= (dtype == DType::f32 ? 1e-5 : 1e-12));
      }
    }
}

TEST_CASE("bf16 on tensor cores: at most twice the error of plain bf16, equal bits in every order") {
  if (!cuda_device()) return;
  Context cpu;
  for (const auto& [q, k] : {std::pair<Shape, Shape>{{1, 2, 200, 64}, {1, 2, 200, 64}},
                             {{1, 1, 33, 32}, {1, 1, 301, 32}},
                             {{1, 1, 130, 128}, {1, 1, 70, 128}}}) {
    const auto found = for_all_orders([&, &q = q, &k = k] {
      Context gpu(kGpu);
      Values all;
      for (const Values& x : run(gpu, q, k, DType::bf16, DType::bf16))
        all.insert(all.end(), x.begin(), x.end());
      return all;
    });
    const auto exact = run(cpu, q, k, DType::bf16, DType::f64), plain = run_plain(q, k);
    auto begin = found.begin();
    for (std::size_t i = 0; i < exact.size(); ++i) {
      CAPTURE(i);
      const auto end = begin + static_cast<std::ptrdiff_t>(exact[i].size());
      const double error = largest_difference(Values(begin, end), exact[i]);
      CHECK(error <= 2 * largest_difference(plain[i], exact[i]) + 1e-6);
      begin = end;
    }
  }
}

TEST_CASE("causal, f32 and f64 of any shape, bf16 on tensor cores and on plain kernels") {
  if (!cuda_device()) return;
  Context cpu, gpu(kGpu);
  for (const auto& shapes : {std::pair<Shape, Shape>{{1, 1, 1, 1}, {1, 1, 1, 1}},
                             {{2, 2, 33, 7}, {2, 2, 65, 7}},
                             {{1, 3, 70, 24}, {1, 3, 70, 24}},
                             {{1, 2, 150, 32}, {1, 2, 171, 32}},
                             {{1, 1, 300, 64}, {1, 1, 300, 64}},
                             {{1, 1, 40, 64}, {1, 1, 200, 64}},
                             {{1, 1, 100, 128}, {1, 1, 111, 128}}})
    for (DType dtype : {DType::f32, DType::f64, DType::bf16}) {
      const Shape &q = shapes.first, &k = shapes.second;
      CAPTURE(q);
      CAPTURE(k);
      const auto found = run(gpu, q, k, dtype, dtype, {.causal = true}),
                 expected = run(cpu, q, k, dtype, DType::f64, {.causal = true});
      for (std::size_t i = 0; i < found.size(); ++i) {
        CAPTURE(i);
        const double bf16_bound = i == 1 ? 1e-4 : 1.5e-2;
        CHECK(deviation(found[i], expected[i]) <= (dtype == DType::f64   ? 1e-12
                                                   : dtype == DType::f32 ? 1e-5
                                                                         : bf16_bound));
      }
    }
}

/// The rows of all heads from `begin` to `end`.
Values rows_of(const Values& x, std::int64_t heads, std::int64_t rows, std::int64_t begin, std::int64_t end) {
  const std::int64_t width = static_cast<std::int64_t>(x.size()) / (heads * rows);
  Values part;
  for (std::int64_t h = 0; h < heads; ++h)
    part.insert(part.end(), x.begin() + (h * rows + begin) * width, x.begin() + (h * rows + end) * width);
  return part;
}

TEST_CASE(
    "causal: later tokens change no bit of earlier rows, earlier queries none of later keys' gradients") {
  if (!cuda_device()) return;
  Context cpu, gpu(kGpu);
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  struct Case {
    DType dtype;
    std::int64_t n, m, d;
  };
  for (const Case& c : {Case{DType::f32, 45, 50, 8}, Case{DType::bf16, 150, 171, 32},
                        Case{DType::bf16, 140, 140, 64}, Case{DType::bf16, 70, 70, 128}}) {
    CAPTURE(c.n);
    CAPTURE(c.d);
    const Shape q_shape = {1, 2, c.n, c.d}, k_shape = {1, 2, c.m, c.d};
    /// o, lse, dq, dk, dv; rows of queries in [from, to) and, if asked, keys from `keys_from` on get a value.
    const auto results = [&](std::int64_t from, std::int64_t to, std::int64_t keys_from, double value) {
      const auto make = [&](const Shape& shape, std::uint64_t seed, std::int64_t first, std::int64_t last) {
        const Tensor x = cast(cpu, random_tensor(cpu, shape, DType::bf16, seed), c.dtype);
        if (first < last) fill(cpu, x.slice(2, first, last), value);
        return transfer(cpu, x, gpu);
      };
      const Tensor q = make(q_shape, 1, from, to), k = make(k_shape, 2, keys_from, c.m),
                   v = make(k_shape, 3, keys_from, c.m), g = make(q_shape, 4, from, to);
      const FullAttentionOptions causal = {.causal = true, .kernels = AttentionKernels::own};
      const AttentionResult r = full_attention(gpu, q, k, v, causal);
      const AttentionGrads d = full_attention_backward(gpu, g, q, k, v, r.o, r.lse, causal);
      return std::vector<Values>{values_of(gpu, r.o), values_of(gpu, r.lse), values_of(gpu, d.dq),
                                 values_of(gpu, d.dk), values_of(gpu, d.dv)};
    };
    const auto before = results(0, 0, c.m, 0);
    for (const std::int64_t cut : {c.n / 3, c.n - 5})
      for (const double value : {nan, inf, 100.0}) {
        const std::int64_t key_cut = cut + c.m - c.n;
        const auto later = results(cut, c.n, key_cut, value);
        for (const std::size_t i : {0, 1, 2})
          CHECK(rows_of(later[i], 2, c.n, 0, cut) == rows_of(before[i], 2, c.n, 0, cut));
        const auto earlier = results(0, cut, c.m, value);
        for (const std::size_t i : {3, 4})
          CHECK(rows_of(earlier[i], 2, c.m, key_cut, c.m) == rows_of(before[i], 2, c.m, key_cut, c.m));
      }
  }
}

TEST_CASE("causal, bf16: equal bits in every order") {
  if (!cuda_device()) return;
  for (const auto& [q, k] :
       {std::pair<Shape, Shape>{{1, 1, 150, 32}, {1, 1, 171, 32}}, {{1, 1, 70, 128}, {1, 1, 70, 128}}})
    for_all_orders([&, &q = q, &k = k] {
      Context gpu(kGpu);
      Values all;
      for (const Values& x : run(gpu, q, k, DType::bf16, DType::bf16, {.causal = true}))
        all.insert(all.end(), x.begin(), x.end());
      return all;
    });
}

TEST_SUITE_END();

// Full attention on a CUDA device against the CPU backend and, in bf16, a plain bf16 implementation.
#include <doctest/doctest.h>

#include <utility>
#include <vector>

#include "kernels/attention.h"
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
std::vector<Values> run(Context& ctx, const Shape& q_shape, const Shape& k_shape, DType inputs, DType dtype) {
  Context cpu;
  const auto make = [&](const Shape& shape, std::uint64_t seed) {
    return transfer(cpu, cast(cpu, random_tensor(cpu, shape, inputs, seed), dtype), ctx);
  };
  const Tensor q = make(q_shape, 1), k = make(k_shape, 2), v = make(k_shape, 3), g = make(q_shape, 4);
  const AttentionResult r = full_attention(ctx, q, k, v);
  const AttentionGrads d = full_attention_backward(ctx, g, q, k, v, r.o, r.lse);
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

TEST_SUITE_END();

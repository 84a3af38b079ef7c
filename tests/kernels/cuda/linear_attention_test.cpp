// Linear attention over blocks that were not picked, on the CUDA backend against the CPU in f64.
#include "kernels/linear_attention.h"

#include <doctest/doctest.h>

#include "autograd/attention.h"
#include "tests/kernels/cuda/contexts.h"
#include "tests/kernels/cuda/orders.h"
#include "tests/support/kernels.h"

using namespace llsa;
using namespace llsa::kernels;
using namespace llsa::test;

TEST_SUITE_BEGIN("kernels/cuda/linear_attention");

namespace {

const Device kGpu{DeviceType::cuda, 0};

/// y and the three gradients. The picks are those of keys b and queries a in f64.
std::vector<Values> run(Context& ctx, const Shape& shape, std::int64_t f, int block, int topk, DType dtype,
                        double scale) {
  Context cpu;
  const LlsaPlan plan = picked_blocks_plan(shape[2], block, topk);
  const Tensor picks = llsa_select(cpu, random_tensor(cpu, shape, DType::f64, 1),
                                   random_tensor(cpu, shape, DType::f64, 2), plan)
                           .level[0];
  const Tensor table = from_vector(ctx, to_vector<std::int32_t>(cpu, picks), picks.shape());
  const auto input = [&](const Shape& of, std::uint64_t seed, double size) {
    return cast(ctx, from_vector(ctx, values_of(cpu, random_tensor(cpu, of, DType::f32, seed, size)), of),
                dtype);
  };
  Shape wide{shape[0], shape[1], shape[2], f};
  const Tensor a = input(shape, 3, scale), b = input(shape, 4, scale), c = input(wide, 5, 1),
               dy = input(wide, 6, 1);
  std::vector<Values> all = {values_of(ctx, linear_attention_rest(ctx, a, b, c, block, table))};
  const auto grads = linear_attention_rest_backward(ctx, dy, a, b, c, block, table);
  for (const Tensor& grad : {grads.da, grads.db, grads.dc}) all.push_back(values_of(ctx, grad));
  return all;
}

}  // namespace

TEST_CASE("f32 and f64 against the CPU, both sides of a quarter of the blocks, ragged") {
  if (!cuda_device()) return;
  Context cpu, gpu(kGpu);
  for (const auto& size : {Shape{1, 1, 1, 3}, Shape{2, 2, 37, 8}, Shape{1, 2, 150, 17}, Shape{1, 1, 300, 32}})
    for (const int topk : {1, 3, 4, 9, 20}) {
      CAPTURE(size);
      CAPTURE(topk);
      const auto expected = run(cpu, size, size[3] + 1, 8, topk, DType::f64, 1);
      for (const DType dtype : {DType::f32, DType::f64}) {
        const auto found = run(gpu, size, size[3] + 1, 8, topk, dtype, 1);
        for (std::size_t i = 0; i < found.size(); ++i) {
          CAPTURE(i);
          const bool zero =
              std::all_of(expected[i].begin(), expected[i].end(), [](double x) { return x == 0; });
          if (zero)
            CHECK(found[i] == expected[i]);
          else
            CHECK(deviation(found[i], expected[i]) <= (dtype == DType::f32 ? 3e-6 : 1e-14));
        }
      }
    }
}

TEST_CASE("the difference of total and picked blocks keeps its digits, in every order of threads") {
  if (!cuda_device()) return;
  // SLA with q and k of size 6: the terms of some blocks are thousands of times those of others.
  Context cpu;
  for (const int topk : {4, 5}) {
    CAPTURE(topk);
    const auto sla = [&](Context& ctx, DType dtype) {
      const Shape shape{1, 1, 17 * 8, 16};
      const auto var = [&](const Shape& of, std::uint64_t seed, double size) {
        return Var(
            ctx,
            cast(ctx, from_vector(ctx, values_of(cpu, random_tensor(cpu, of, DType::f32, seed, size)), of),
                 dtype),
            true);
      };
      const Var q = var(shape, 1, 6), k = var(shape, 2, 6), v = var(shape, 3, 1), w = var({16, 16}, 4, 1),
                b = var({16}, 5, 1);
      const Var o = sla_attention(q, k, v, w, b, {8, topk});
      backward(o, cast(ctx, from_vector(ctx, values_of(cpu, random_tensor(cpu, shape, DType::f32, 6)), shape),
                       dtype));
      Values all = values_of(ctx, o.value());
      for (const Var& leaf : {q, k, v, w, b}) {
        const Values grad = values_of(ctx, leaf.grad());
        all.insert(all.end(), grad.begin(), grad.end());
      }
      return all;
    };
    const auto found = for_all_orders([&] {
      Context gpu(kGpu);
      return sla(gpu, DType::f32);
    });
    CHECK(deviation(found, sla(cpu, DType::f64)) <= 2e-5);
  }
}

TEST_CASE("entries that are out of range stand for nothing") {
  if (!cuda_device()) return;
  Context cpu, gpu(kGpu);
  const Shape shape{1, 1, 20, 4};
  const auto y = [&](Context& ctx, std::vector<std::int32_t> table) {
    const Tensor x = from_vector(ctx, values_of(cpu, random_tensor(cpu, shape, DType::f64, 1)), shape);
    return values_of(ctx, linear_attention_rest(ctx, x, x, x, 4, from_vector(ctx, table, {1, 1, 5, 2})));
  };
  CHECK(deviation(y(gpu, {0, 9, 1, 2, 3, -1, 4, 7, 2, 4}), y(cpu, {0, -1, 1, 2, 3, -1, 4, -1, 2, 4})) <=
        1e-14);
}

TEST_CASE("VSA and SLA of one token and of few, bf16 on tensor cores and on plain kernels") {
  if (!cuda_device()) return;
  Context cpu, gpu(kGpu);
  for (const auto& shape : {Shape{1, 2, 1, 32}, Shape{2, 1, 1, 6}, Shape{1, 2, 40, 32}, Shape{1, 1, 40, 20}})
    for (const bool vsa : {true, false}) {
      CAPTURE(shape);
      CAPTURE(vsa);
      const std::int64_t d = shape[3];
      const auto outcome = [&](Context& ctx, DType dtype) {
        const auto var = [&](const Shape& of, std::uint64_t seed) {
          const Tensor x =
              cast(cpu, cast(cpu, random_tensor(cpu, of, DType::f32, seed), DType::bf16), DType::f64);
          return Var(ctx, cast(ctx, from_vector(ctx, values_of(cpu, x), of), dtype), true);
        };
        const Var q = var(shape, 1), k = var(shape, 2), v = var(shape, 3), gate = var(shape, 4),
                  w = var({d, d}, 5), b = var({d}, 6);
        const Var o = vsa ? vsa_attention(q, k, v, gate, {16, 20}) : sla_attention(q, k, v, w, b, {16, 20});
        backward(o, var(shape, 7).value());
        std::vector<Values> all = {values_of(ctx, o.value())};
        for (const Var& leaf : {q, k, v}) all.push_back(values_of(ctx, leaf.grad()));
        return all;
      };
      const auto found = outcome(gpu, DType::bf16), expected = outcome(cpu, DType::f64);
      for (std::size_t i = 0; i < found.size(); ++i) {
        CAPTURE(i);
        const bool zero =
            std::all_of(expected[i].begin(), expected[i].end(), [](double x) { return std::abs(x) < 1e-12; });
        if (!zero) CHECK(deviation(found[i], expected[i]) <= 2e-2);
        for (const double x : found[i]) CHECK(std::isfinite(x));
      }
    }
}

TEST_SUITE_END();

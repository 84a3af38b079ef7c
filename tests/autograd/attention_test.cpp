// VSA and SLA where rules change: one token, all blocks picked, few blocks left, large q and k.
#include "autograd/attention.h"

#include <doctest/doctest.h>

#include <limits>

#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/random.h"
#include "tests/support/kernels.h"

using namespace llsa;
using namespace llsa::test;

TEST_SUITE_BEGIN("autograd/attention");

namespace {

/// q, k, v, and what the method needs besides, as leaves.
struct Inputs {
  Var q, k, v, gate, weight, bias;

  Inputs(Context& ctx, const Shape& shape, DType dtype, double scale) {
    const std::int64_t d = shape[3];
    const auto leaf = [&](const Shape& of, std::uint64_t seed, double size) {
      // Rounded to f32 first, so that f32 and f64 compute with the same numbers.
      return Var(ctx, kernels::cast(ctx, random_tensor(ctx, of, DType::f32, seed, size), dtype), true);
    };
    q = leaf(shape, 1, scale), k = leaf(shape, 2, scale), v = leaf(shape, 3, 1), gate = leaf(shape, 4, 1);
    weight = leaf({d, d}, 5, 0.3), bias = leaf({d}, 6, 1);
  }

  /// o, and the gradients of all that the method reads, for a random gradient at o.
  std::vector<Values> run(Context& ctx, bool vsa, int block, int topk) const {
    const Var o = vsa ? vsa_attention(q, k, v, gate, {block, topk})
                      : sla_attention(q, k, v, weight, bias, {block, topk});
    backward(o, kernels::cast(ctx, random_tensor(ctx, o.shape(), DType::f32, 7), o.dtype()));
    std::vector<Values> all = {values_of(ctx, o.value())};
    for (const Var& leaf : {q, k, v, gate, weight, bias})
      if (leaf.grad().defined()) all.push_back(values_of(ctx, leaf.grad()));
    return all;
  }
};

}  // namespace

TEST_CASE("one token: softmax attention is v, and no block is left over") {
  Context ctx;
  const Inputs x(ctx, {2, 3, 1, 4}, DType::f64, 1);
  const Values v = values_of(ctx, x.v.value()), gate = values_of(ctx, x.gate.value()),
               bias = values_of(ctx, x.bias.value());
  const Values vsa = values_of(ctx, vsa_attention(x.q, x.k, x.v, x.gate, {4, 20}).value()),
               sla = values_of(ctx, sla_attention(x.q, x.k, x.v, x.weight, x.bias, {4, 20}).value());
  for (std::size_t i = 0; i < v.size(); ++i) {
    CHECK(vsa[i] == doctest::Approx(v[i] * gate[i] + v[i]).epsilon(1e-14));
    CHECK(sla[i] == doctest::Approx(v[i] + bias[i % 4]).epsilon(1e-14));
  }
}

TEST_CASE("all blocks picked: the fine part is full attention, and SLA's linear part has no gradient") {
  Context ctx;
  const Shape shape{1, 2, 37, 8};
  const Inputs x(ctx, shape, DType::f64, 1);
  const Values full = values_of(ctx, full_attention(x.q, x.k, x.v).value()),
               bias = values_of(ctx, x.bias.value());
  const Var o = sla_attention(x.q, x.k, x.v, x.weight, x.bias, {4, 10});
  Values expected = full;
  for (std::size_t i = 0; i < full.size(); ++i) expected[i] += bias[i % 8];
  CHECK(deviation(values_of(ctx, o.value()), expected) <= 1e-13);
  backward(o, random_tensor(ctx, shape, DType::f64, 7));
  for (const double g : values_of(ctx, x.weight.grad())) CHECK(g == 0);
}

TEST_CASE("SLA in f32 with q and k of size 6, on both sides of a quarter of the blocks") {
  Context ctx;
  for (const std::int64_t blocks : {17, 33})
    for (const int topk : {4, 5, 8, 9, 16}) {
      CAPTURE(blocks);
      CAPTURE(topk);
      const Shape shape{1, 2, blocks * 8 - 3, 16};
      const auto narrow = Inputs(ctx, shape, DType::f32, 6).run(ctx, false, 8, topk),
                 wide = Inputs(ctx, shape, DType::f64, 6).run(ctx, false, 8, topk);
      REQUIRE(narrow.size() == wide.size());
      for (std::size_t i = 0; i < narrow.size(); ++i) {
        CAPTURE(i);
        CHECK(deviation(narrow[i], wide[i]) <= 2e-5);
      }
    }
}

TEST_CASE("bf16: stored inputs, sums in f32") {
  Context ctx;
  for (const bool vsa : {true, false}) {
    CAPTURE(vsa);
    const Shape shape{1, 2, 100, 16};
    const Inputs narrow(ctx, shape, DType::bf16, 1);
    Inputs wide(ctx, shape, DType::bf16, 1);
    for (Var* leaf : {&wide.q, &wide.k, &wide.v, &wide.gate, &wide.weight, &wide.bias})
      *leaf = Var(ctx, kernels::cast(ctx, leaf->value(), DType::f64), true);
    const auto found = narrow.run(ctx, vsa, 8, 13), expected = wide.run(ctx, vsa, 8, 13);  // all blocks
    REQUIRE(found.size() == expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      CAPTURE(i);
      if (std::any_of(expected[i].begin(), expected[i].end(), [](double e) { return e != 0; }))
        CHECK(deviation(found[i], expected[i]) <= 3e-2);
    }
  }
}

TEST_CASE("VSA with a block larger than the sequence takes no more memory than its tokens") {
  Context ctx(1, 1 << 20);
  const Var q(ctx, ctx.zeros({1, 1, 3, 2}, DType::f32), true);
  const Var o = vsa_attention(q, q, q, {}, {.block = std::numeric_limits<int>::max(), .topk = 1});
  CHECK(o.shape() == q.shape());
  backward(o, ctx.zeros(o.shape(), DType::f32));
  CHECK(q.grad().shape() == q.shape());
}

TEST_CASE("options that do not fit are named") {
  Context ctx;
  const Inputs x(ctx, {1, 1, 9, 4}, DType::f32, 1);
  CHECK_THROWS_AS(vsa_attention(x.q, x.k, x.v, {}, {1, 2}), ValueError);
  CHECK_THROWS_AS(sla_attention(x.q, x.k, x.v, x.weight, x.bias, {4, 0}), ValueError);
  CHECK_THROWS_AS(vsa_attention(x.q, x.k, x.v, Var(ctx, ctx.zeros({1, 1, 8, 4}, DType::f32))), ShapeError);
}

TEST_SUITE_END();

// What a program that hosts the library relies on: contexts side by side in threads of its own, values and texts of Vars.
#include <doctest/doctest.h>

#include <sstream>
#include <thread>
#include <vector>

#include "autograd/ops.h"
#include "autograd/var.h"
#include "kernels/make.h"
#include "tests/support/tensors.h"

using namespace llsa;

namespace {

/// Gradients of a small network with LLSA, on a context with so many threads.
std::vector<std::vector<float>> gradients(int threads, std::uint64_t seed) {
  Context ctx(threads);
  CHECK(ctx.pool().threads() == threads);
  const auto leaf = [&](const Shape& shape, std::uint64_t stream) {
    return Var(ctx, randn(ctx, shape, seed, stream), true);
  };
  const Var x = leaf({1, 2, 300, 16}, 0), w = leaf({16, 16}, 1);
  for (int step = 0; step < 3; ++step) {
    const Var h = linear(x, w);
    backward(mean(square(llsa_attention(h, x, gelu_tanh(h), {}))));
  }
  return {to_vector<float>(ctx, x.grad()), to_vector<float>(ctx, w.grad())};
}

}  // namespace

TEST_SUITE_BEGIN("autograd/contexts");

TEST_CASE("two contexts in two threads give what each gives alone") {
  const auto first = gradients(1, 1), second = gradients(1, 2);
  for (int round = 0; round < 3; ++round) {
    std::vector<std::vector<float>> beside_first, beside_second;
    std::thread a([&] { beside_first = gradients(3, 1); });
    std::thread b([&] { beside_second = gradients(2, 2); });
    a.join();
    b.join();
    CHECK(beside_first == first);
    CHECK(beside_second == second);
  }
}

TEST_CASE("one context per thread keeps its own switches") {
  Context ctx(1);
  const NoGrad no_gradients;
  bool recorded = false;
  std::thread other([&] {
    Context own(1);
    recorded = neg(Var(own, ones(own, {1}), true)).requires_grad();
  });
  other.join();
  CHECK(recorded);
  CHECK_FALSE(neg(Var(ctx, ones(ctx, {1}), true)).requires_grad());
}

TEST_CASE("the only element of a Var") {
  Context ctx(1);
  const Var x(ctx, arange(ctx, 0, 4), true);
  CHECK(sum(x).item() == 6.0);
  CHECK(Var(ctx, full(ctx, {1, 1}, -3, DType::i32)).item() == -3.0);
  CHECK_THROWS_AS(x.item(), ShapeError);
  CHECK_THROWS_AS(Var().item(), Error);
}

TEST_CASE("a Var as text") {
  Context ctx(1);
  std::ostringstream out;
  out << Var(ctx, ones(ctx, {2})) << "; " << Var(ctx, ones(ctx, {2}), true) << "; " << Var();
  CHECK(out.str() == "f32 [2] on cpu: [1, 1]; requires grad, f32 [2] on cpu: [1, 1]; undefined");
}

TEST_SUITE_END();

#include "nn/optim.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "kernels/copy.h"
#include "tests/support/tensors.h"

namespace llsa::nn {

namespace {

/// A weight and a bias.
struct Pair : Parameters {
  explicit Pair(Context& ctx, DType dtype = DType::f32) : Parameters(ctx, 5, dtype) {
    declare("w", Shape{33}, Init::normal(1.0));
    declare("b", Shape{7}, Init::normal(0.1));
  }
};

void set_gradient(Context& ctx, Parameters& store, int step) {
  for (const Parameter& p : store.all()) {
    std::vector<double> g;
    for (std::int64_t i = 0; i < p.shape.numel(); ++i)
      g.push_back(std::sin(0.7 * static_cast<double>(i) + step));
    kernels::copy(ctx, kernels::from_vector(ctx, g, p.shape), store.view(store.flat_grad(), p));
  }
}

}  // namespace

TEST_SUITE_BEGIN("nn/optim");

TEST_CASE("AdamW equals its formula over several clipped steps, padding stays zero") {
  Context ctx(2);
  Pair store(ctx, DType::f64);
  AdamWOptions options;
  options.clip = 0.5;
  options.adam.weight_decay = 0.1;
  AdamW optimizer(store, options);
  std::vector<double> w = kernels::to_vector<double>(ctx, store.flat());
  std::vector<double> m(w.size(), 0.0), v(w.size(), 0.0);
  for (int n = 1; n <= 4; ++n) {
    set_gradient(ctx, store, n);
    const auto g = kernels::to_vector<double>(ctx, store.flat_grad());
    double norm = 0;
    for (const double x : g) norm += x * x;
    norm = std::sqrt(norm);
    const double factor = std::min(1.0, 0.5 / (norm + 1e-6));
    const double lr = 0.01 * n;
    optimizer.step(lr);
    CHECK(ctx.item(optimizer.gradient_norm()) == doctest::Approx(norm).epsilon(1e-12));
    for (std::size_t i = 0; i < w.size(); ++i) {
      const double clipped = factor * g[i];
      m[i] = 0.9 * m[i] + 0.1 * clipped;
      v[i] = 0.999 * v[i] + 0.001 * clipped * clipped;
      w[i] = w[i] * (1 - lr * 0.1) -
             lr * (m[i] / (1 - std::pow(0.9, n))) / (std::sqrt(v[i] / (1 - std::pow(0.999, n))) + 1e-8);
    }
  }
  const Tensor expected = kernels::from_vector(ctx, w, store.flat().shape());
  CHECK(test::relative_error(ctx, store.flat(), expected) <= 1e-12);
  CHECK(kernels::to_vector<double>(ctx, store.flat())[35] == 0.0);
  CHECK(ctx.item(optimizer.updates()) == 4);
  CHECK(optimizer.count_skipped() == 0);
}

TEST_CASE("a gradient that is not finite changes nothing and is counted") {
  Context ctx(1);
  Pair store(ctx);
  AdamW optimizer(store);
  Ema ema(store);
  set_gradient(ctx, store, 1);
  optimizer.step(0.1, &ema);
  const Tensor before = kernels::clone(ctx, store.flat());
  const Tensor average = kernels::clone(ctx, ema.flat());
  kernels::fill(ctx, store.at("b").grad(), std::numeric_limits<double>::quiet_NaN());
  optimizer.step(0.1, &ema);
  CHECK(test::same_bits(ctx, store.flat(), before));
  CHECK(test::same_bits(ctx, ema.flat(), average));
  CHECK(ctx.item(optimizer.skipped()) == 1);
  CHECK(optimizer.count_skipped() == 1);
  set_gradient(ctx, store, 2);
  optimizer.step(0.1, &ema);  // and so does every later step, until the state is restored
  CHECK(test::same_bits(ctx, store.flat(), before));
  CHECK(optimizer.count_skipped() == 2);
  optimizer.restore(optimizer.first_moment(), optimizer.second_moment(), 1);
  optimizer.step(0.1, &ema);
  CHECK(ctx.item(optimizer.skipped()) == 0);
  CHECK(optimizer.count_skipped() == 0);
  CHECK_FALSE(test::same_bits(ctx, store.flat(), before));
}

TEST_CASE("no step waits for the device") {
  Context ctx(1);
  Pair store(ctx);
  AdamW optimizer(store);
  Ema ema(store);
  set_gradient(ctx, store, 1);
  const auto before = ctx.synchronizations();
  optimizer.step(0.1, &ema);
  optimizer.step(0.1);
  CHECK(ctx.synchronizations() == before);
}

TEST_CASE("the average of constant steps equals its closed form") {
  // avg_n = sum_i a_i w_i with a_i = (1 - d_i) prod_{j>i} d_j, d_n = min(1 - n^-3/4, 0.9999).
  Context ctx(1);
  Pair store(ctx, DType::f64);
  Ema ema(store);
  const Tensor n = ctx.zeros(Shape{1}, DType::i64);
  std::vector<std::vector<double>> weights;
  for (int step = 1; step <= 5; ++step) {
    set_gradient(ctx, store, step);
    store.load(store.flat_grad());
    weights.push_back(kernels::to_vector<double>(ctx, store.flat()));
    kernels::fill(ctx, n, step);
    ema.update(n);
  }
  const auto got = kernels::to_vector<double>(ctx, ema.flat());
  for (std::size_t k = 0; k < got.size(); ++k) {
    double expected = 0;
    for (int i = 1; i <= 5; ++i) {
      double a = std::pow(i, -0.75);
      for (int j = i + 1; j <= 5; ++j) a *= 1 - std::pow(j, -0.75);
      expected += a * weights[static_cast<std::size_t>(i - 1)][k];
    }
    CHECK(got[k] == doctest::Approx(expected).epsilon(1e-12));
  }
}

TEST_CASE("the fused step and the separate average agree bit for bit") {
  Context ctx(1);
  Pair a(ctx), b(ctx);
  AdamW fused(a), plain(b);
  Ema ema_a(a), ema_b(b);
  for (int step = 1; step <= 5; ++step) {
    set_gradient(ctx, a, step);
    set_gradient(ctx, b, step);
    fused.step(0.01, &ema_a);
    plain.step(0.01);
    ema_b.update(plain.updates());
  }
  CHECK(test::same_bits(ctx, a.flat(), b.flat()));
  CHECK(test::same_bits(ctx, ema_a.flat(), ema_b.flat()));
}

TEST_CASE("a restored optimiser goes on as if it had not stopped") {
  Context ctx(1);
  Pair a(ctx), b(ctx);
  AdamW first(a);
  Ema ema_a(a);
  for (int step = 1; step <= 3; ++step) {
    set_gradient(ctx, a, step);
    first.step(0.01, &ema_a);
  }
  b.load(a.flat());
  AdamW second(b);
  Ema ema_b(b);
  second.restore(first.first_moment(), first.second_moment(), 3);
  ema_b.restore(ema_a.flat());
  set_gradient(ctx, a, 4);
  set_gradient(ctx, b, 4);
  first.step(0.01, &ema_a);
  second.step(0.01, &ema_b);
  CHECK(test::same_bits(ctx, a.flat(), b.flat()));
  CHECK(test::same_bits(ctx, ema_a.flat(), ema_b.flat()));
  CHECK_THROWS_AS(second.restore(ctx.zeros(Shape{1}, DType::f32), first.second_moment(), 3), ShapeError);
  CHECK_THROWS_AS(ema_b.restore(ctx.zeros(Shape{1}, DType::f32)), ShapeError);
}

TEST_CASE("bf16 models update f32 master weights") {
  Context ctx(1);
  Pair store(ctx, DType::bf16);
  AdamW optimizer(store);
  const Tensor before = kernels::clone(ctx, store.flat());
  set_gradient(ctx, store, 1);
  optimizer.step(1e-5);  // too small to move a bf16 weight near 1
  CHECK_FALSE(test::same_bits(ctx, store.flat(), before));
  const Tensor rounded = kernels::cast(ctx, store.view(store.flat(), store.find("w")), DType::bf16);
  CHECK(test::same_bits(ctx, store.at("w").value(), rounded));
}

TEST_SUITE_END();

}  // namespace llsa::nn

#include "nn/optim.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "autograd/elementwise.h"
#include "autograd/matmul.h"
#include "autograd/reduce.h"
#include "core/error.h"
#include "kernels/copy.h"
#include "nn/checkpoint/training_state.h"
#include "tests/support/files.h"
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

void set_gradient(Context& ctx, Parameters& params, int step) {
  for (const Parameter& p : params.all()) {
    std::vector<double> g;
    for (std::int64_t i = 0; i < p.shape.numel(); ++i)
      g.push_back(std::sin(0.7 * static_cast<double>(i) + step));
    kernels::copy(ctx, kernels::from_vector(ctx, g, p.shape), params.view(params.flat_grad(), p));
  }
}

}  // namespace

TEST_SUITE_BEGIN("nn/optim");

TEST_CASE("AdamW equals its formula over several clipped steps, padding stays zero") {
  Context ctx(2);
  Pair params(ctx, DType::f64);
  AdamWOptions options;
  options.clip = 0.5;
  options.weight_decay = 0.1;
  AdamW optimizer(params, options);
  std::vector<double> w = kernels::to_vector<double>(ctx, params.flat());
  std::vector<double> m(w.size(), 0.0), v(w.size(), 0.0);
  for (int n = 1; n <= 4; ++n) {
    set_gradient(ctx, params, n);
    const auto g = kernels::to_vector<double>(ctx, params.flat_grad());
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
  const Tensor expected = kernels::from_vector(ctx, w, params.flat().shape());
  CHECK(test::relative_error(ctx, params.flat(), expected) <= 1e-12);
  CHECK(kernels::to_vector<double>(ctx, params.flat())[35] == 0.0);
  CHECK(ctx.item(optimizer.updates()) == 4);
  CHECK(optimizer.count_skipped() == 0);
}

TEST_CASE("a gradient that is not finite changes nothing and is counted") {
  Context ctx(1);
  Pair params(ctx);
  AdamW optimizer(params);
  Ema ema(params);
  set_gradient(ctx, params, 1);
  optimizer.step(0.1, &ema);
  const Tensor before = kernels::clone(ctx, params.flat());
  const Tensor average = kernels::clone(ctx, ema.flat());
  kernels::fill(ctx, params.at("b").grad(), std::numeric_limits<double>::quiet_NaN());
  optimizer.step(0.1, &ema);
  CHECK(test::same_bits(ctx, params.flat(), before));
  CHECK(test::same_bits(ctx, ema.flat(), average));
  CHECK(ctx.item(optimizer.skipped()) == 1);
  CHECK(optimizer.count_skipped() == 1);
  set_gradient(ctx, params, 2);
  optimizer.step(0.1, &ema);  // and so does every later step, until the state is restored
  CHECK(test::same_bits(ctx, params.flat(), before));
  CHECK(optimizer.count_skipped() == 2);
  optimizer.restore({optimizer.first_moment(), optimizer.second_moment()}, 1);
  optimizer.step(0.1, &ema);
  CHECK(ctx.item(optimizer.skipped()) == 0);
  CHECK(optimizer.count_skipped() == 0);
  CHECK_FALSE(test::same_bits(ctx, params.flat(), before));
}

TEST_CASE("no step waits for the device") {
  Context ctx(1);
  Pair params(ctx);
  AdamW optimizer(params);
  Ema ema(params);
  set_gradient(ctx, params, 1);
  const auto before = ctx.synchronizations();
  optimizer.step(0.1, &ema);
  optimizer.step(0.1);
  CHECK(ctx.synchronizations() == before);
}

TEST_CASE("the average of constant steps equals its closed form") {
  // avg_n = sum_i a_i w_i with a_i = (1 - d_i) prod_{j>i} d_j, d_n = min(1 - n^-3/4, 0.9999).
  Context ctx(1);
  Pair params(ctx, DType::f64);
  Ema ema(params);
  std::vector<std::vector<double>> weights;
  for (int step = 1; step <= 5; ++step) {
    set_gradient(ctx, params, step);
    params.load(params.flat_grad());
    weights.push_back(kernels::to_vector<double>(ctx, params.flat()));
    ema.update();
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
    ema_b.update();
  }
  CHECK(test::same_bits(ctx, a.flat(), b.flat()));
  CHECK(test::same_bits(ctx, ema_a.flat(), ema_b.flat()));
}

TEST_CASE("averages beside the first one follow the weights, and are in the training state") {
  const test::TempDir dir;
  Context ctx(1);
  Pair params(ctx);
  AdamW adam(params, {.clip = 1.0});
  Ema ema(params);
  ema.keep_beside({.max_decay = 0.5});
  Ema alone(params, {.max_decay = 0.5});
  for (int step = 1; step <= 5; ++step) {
    set_gradient(ctx, params, step);
    adam.step(1e-2, &ema);
    alone.update();
  }
  const Ema& other = *ema.others().at(0);
  CHECK(test::same_bits(ctx, other.flat(), alone.flat()));
  CHECK_FALSE(test::same_bits(ctx, other.flat(), ema.flat()));
  write_training_state(dir.path(), {params, adam, &ema}, 5);
  Pair again(ctx);
  AdamW adam_again(again, {.clip = 1.0});
  Ema ema_again(again);
  ema_again.keep_beside({.max_decay = 0.5});
  CHECK(restore_training_state(dir.path(), {again, adam_again, &ema_again}) == 5);
  CHECK(test::same_bits(ctx, ema_again.flat(), ema.flat()));
  CHECK(test::same_bits(ctx, ema_again.others().at(0)->flat(), other.flat()));
  CHECK(ctx.item(ema_again.others().at(0)->updates()) == 5);

  // A gradient that is not finite leaves them as they are.
  const Tensor before = kernels::clone(ctx, other.flat());
  kernels::fill(ctx, params.at("w").grad(), std::numeric_limits<double>::infinity());
  kernels::fill(ctx, params.flat(), 7.0);
  adam.step(1e-2, &ema);
  CHECK(test::same_bits(ctx, other.flat(), before));
  CHECK(ctx.item(other.updates()) == 5);
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
  second.restore({first.first_moment(), first.second_moment()}, 3);
  ema_b.restore(ema_a.flat(), 3);
  set_gradient(ctx, a, 4);
  set_gradient(ctx, b, 4);
  first.step(0.01, &ema_a);
  second.step(0.01, &ema_b);
  CHECK(test::same_bits(ctx, a.flat(), b.flat()));
  CHECK(test::same_bits(ctx, ema_a.flat(), ema_b.flat()));
  CHECK_THROWS_AS(second.restore({ctx.zeros(Shape{1}, DType::f32), first.second_moment()}, 3), ShapeError);
  CHECK_THROWS_AS(ema_b.restore(ctx.zeros(Shape{1}, DType::f32), 3), ShapeError);
  CHECK_THROWS_AS(ema_b.restore(ema_a.flat(), -1), ValueError);
  CHECK_THROWS_AS(second.restore({first.first_moment(), first.second_moment()}, -1), ValueError);
}

TEST_CASE("bf16 models update f32 master weights") {
  Context ctx(1);
  Pair params(ctx, DType::bf16);
  AdamW optimizer(params);
  const Tensor before = kernels::clone(ctx, params.flat());
  set_gradient(ctx, params, 1);
  optimizer.step(1e-5);  // too small to move a bf16 weight near 1
  CHECK_FALSE(test::same_bits(ctx, params.flat(), before));
  const Tensor rounded = kernels::cast(ctx, params.view(params.flat(), params.find("w")), DType::bf16);
  CHECK(test::same_bits(ctx, params.at("w").value(), rounded));
}

TEST_CASE("a step leaves the gradients at zero; several backward passes before it add up") {
  Context ctx(1);
  Pair once(ctx), twice(ctx);
  AdamW a(once), b(twice);
  const auto loss = [](Parameters& params, double scale) {
    return sum(square(params.at("w"))) * scale + sum(params.at("b")) * scale;
  };
  backward(loss(once, 1.0));
  for (int part = 0; part < 2; ++part) backward(loss(twice, 0.5));
  CHECK(test::relative_error(ctx, twice.flat_grad(), once.flat_grad()) <= 1e-6);
  a.step(0.1);
  b.step(0.1);
  CHECK(test::relative_error(ctx, twice.flat(), once.flat()) <= 1e-6);
  for (const Parameters* params : {&once, &twice})
    for (const double g : kernels::to_vector<double>(ctx, params->flat_grad())) CHECK(g == 0.0);
}

TEST_CASE("weight decay reaches the parameters that it is meant for") {
  Context ctx(1);
  const auto after_step = [&](const ParameterFilter& decays, double weight_decay) {
    Pair params(ctx, DType::f64);
    AdamW optimizer(params, {.weight_decay = weight_decay, .decays = decays});
    set_gradient(ctx, params, 1);
    optimizer.step(0.1);
    return std::pair{kernels::clone(ctx, params.at("w").value()),
                     kernels::clone(ctx, params.at("b").value())};
  };
  const auto all = after_step({}, 0.5), none = after_step({}, 0.0);
  const auto weights = after_step([](const Parameter& p) { return p.name == "w"; }, 0.5);
  const auto everything = after_step([](const Parameter&) { return true; }, 0.5);
  CHECK(test::same_bits(ctx, weights.first, all.first));
  CHECK(test::same_bits(ctx, weights.second, none.second));
  CHECK_FALSE(test::same_bits(ctx, all.second, none.second));
  CHECK(test::same_bits(ctx, everything.first, all.first));
  CHECK(test::same_bits(ctx, everything.second, all.second));
  CHECK(is_matrix({"m", Shape{2, 3}, 0, {}}));
  CHECK_FALSE(is_matrix({"v", Shape{3}, 0, {}}));
}

TEST_CASE("a frozen parameter has no gradient, does not move, does not count in the norm") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    CAPTURE(name_of(dtype));
    Context ctx(1);
    Pair params(ctx, dtype);
    AdamW optimizer(params, {.weight_decay = 0.5});
    Ema ema(params);
    const auto loss = [&] { return sum(square(params.at("w"))) + sum(square(params.at("b"))); };
    backward(loss());
    params.freeze("w");  // also forgets the gradient that it has collected
    CHECK(params.find("w").frozen);
    CHECK_FALSE(params.at("w").requires_grad());
    backward(loss());
    const Tensor w = kernels::clone(ctx, params.view(params.flat(), params.find("w")));
    const auto b = kernels::to_vector<double>(ctx, params.at("b").value());
    double squares = 0;
    for (const double g : kernels::to_vector<double>(ctx, params.at("b").grad())) squares += g * g;
    optimizer.step(0.1, &ema);
    CHECK(test::same_bits(ctx, params.view(params.flat(), params.find("w")), w));
    CHECK(test::same_bits(ctx, params.view(ema.flat(), params.find("w")), w));
    CHECK(ctx.item(optimizer.gradient_norm()) == doctest::Approx(std::sqrt(squares)).epsilon(1e-6));
    CHECK(kernels::to_vector<double>(ctx, params.at("b").value()) != b);

    params.unfreeze("w");
    backward(loss());
    optimizer.step(0.1, &ema);
    CHECK_FALSE(test::same_bits(ctx, params.view(params.flat(), params.find("w")), w));
    CHECK_THROWS_AS(params.freeze("v"), ValueError);
  }
}

TEST_CASE("a part of joined parameters can be frozen") {
  Context ctx(1);
  Parameters params(ctx, 5);
  const Var joined = params.declare_joined(
      {{"q.weight", Shape{2, 3}, Init::normal(1.0)}, {"k.weight", Shape{2, 3}, Init::normal(1.0)}},
      Shape{4, 3});
  const Var x(ctx, kernels::from_vector(ctx, std::vector<float>{1, 2, 3}, Shape{1, 3}));
  AdamW optimizer(params, {.weight_decay = 0.5});
  params.freeze("q");
  CHECK(joined.requires_grad());
  const Tensor q = kernels::clone(ctx, params.at("q.weight").value());
  const Tensor k = kernels::clone(ctx, params.at("k.weight").value());
  backward(sum(linear(x, joined)));
  optimizer.step(0.1);
  CHECK(ctx.item(optimizer.gradient_norm()) == doctest::Approx(std::sqrt(2 * 14.0)));
  CHECK(test::same_bits(ctx, params.at("q.weight").value(), q));
  CHECK_FALSE(test::same_bits(ctx, params.at("k.weight").value(), k));
  params.freeze("k.weight");
  CHECK_FALSE(joined.requires_grad());
  params.unfreeze("");
  CHECK(joined.requires_grad());
  backward(sum(linear(x, joined)));
  optimizer.step(0.1);
  CHECK_FALSE(test::same_bits(ctx, params.at("q.weight").value(), q));
}

TEST_CASE("Sgd equals its formula over several steps") {
  Context ctx(2);
  for (const double momentum : {0.0, 0.9})
    for (const double clip : {0.0, 0.5}) {
      CAPTURE(momentum);
      CAPTURE(clip);
      Pair params(ctx, DType::f64);
      Sgd optimizer(params, {.momentum = momentum, .weight_decay = 0.1, .clip = clip});
      std::vector<double> w = kernels::to_vector<double>(ctx, params.flat()), v(w.size(), 0.0);
      for (int n = 1; n <= 4; ++n) {
        set_gradient(ctx, params, n);
        const auto g = kernels::to_vector<double>(ctx, params.flat_grad());
        double norm = 0;
        for (const double x : g) norm += x * x;
        const double factor = clip > 0 ? std::min(1.0, clip / (std::sqrt(norm) + 1e-6)) : 1.0;
        optimizer.step(0.01 * n);
        for (std::size_t i = 0; i < w.size(); ++i) {
          v[i] = momentum * v[i] + factor * g[i] + 0.1 * w[i];
          w[i] -= 0.01 * n * v[i];
        }
      }
      CHECK(test::relative_error(ctx, params.flat(), kernels::from_vector(ctx, w, params.flat().shape())) <=
            1e-13);
      CHECK(optimizer.velocity().defined() == (momentum > 0));
      CHECK(ctx.item(optimizer.updates()) == 4);
    }
}

TEST_CASE("a restored Sgd goes on as if it had not stopped; the average follows it") {
  Context ctx(1);
  Pair a(ctx), b(ctx);
  Sgd first(a, {.momentum = 0.9});
  Ema ema_a(a);
  for (int step = 1; step <= 3; ++step) {
    set_gradient(ctx, a, step);
    first.step(0.01, &ema_a);
  }
  b.load(a.flat());
  Sgd second(b, {.momentum = 0.9});
  Ema ema_b(b);
  second.restore({first.velocity()}, 3);
  ema_b.restore(ema_a.flat(), 3);
  set_gradient(ctx, a, 4);
  set_gradient(ctx, b, 4);
  first.step(0.01, &ema_a);
  second.step(0.01);
  ema_b.update();
  CHECK(test::same_bits(ctx, a.flat(), b.flat()));
  CHECK(test::same_bits(ctx, ema_a.flat(), ema_b.flat()));
  CHECK_THROWS_AS(second.restore({}, 3), ShapeError);
  CHECK_THROWS_AS(Sgd(b).restore({first.velocity()}, 3), ShapeError);
}

TEST_CASE("Sgd: a gradient that is not finite changes nothing, bf16 models keep exact weights") {
  Context ctx(1);
  Pair params(ctx, DType::bf16);
  Sgd optimizer(params, {.momentum = 0.9});
  const Tensor before = kernels::clone(ctx, params.flat());
  set_gradient(ctx, params, 1);
  optimizer.step(1e-5);  // too small to move a bf16 weight near 1
  const Tensor moved = kernels::clone(ctx, params.flat());
  CHECK_FALSE(test::same_bits(ctx, moved, before));
  const Tensor rounded = kernels::cast(ctx, params.view(moved, params.find("w")), DType::bf16);
  CHECK(test::same_bits(ctx, params.at("w").value(), rounded));
  kernels::fill(ctx, params.at("b").grad(), std::numeric_limits<double>::quiet_NaN());
  optimizer.step(0.1);
  CHECK(test::same_bits(ctx, params.flat(), moved));
  CHECK(optimizer.count_skipped() == 1);
}

TEST_CASE("options out of range") {
  Context ctx(1);
  Pair params(ctx);
  CHECK_THROWS_AS(AdamW(params, {.clip = -1.0}), ValueError);
  CHECK_THROWS_AS(Sgd(params, {.clip = -1.0}), ValueError);
  for (const SgdOptions& options :
       {SgdOptions{.momentum = 1.0}, SgdOptions{.momentum = -0.1}, SgdOptions{.weight_decay = -1.0}}) {
    Sgd optimizer(params, options);
    CHECK_THROWS_AS(optimizer.step(0.1), ValueError);
  }
}

TEST_SUITE_END();

}  // namespace llsa::nn

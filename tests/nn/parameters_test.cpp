#include "nn/parameters.h"

#include <doctest/doctest.h>

#include <cmath>

#include "autograd/matmul.h"
#include "autograd/reduce.h"
#include "core/error.h"
#include "kernels/copy.h"
#include "tests/support/tensors.h"

namespace llsa::nn {

namespace {

std::vector<ParameterSpec> three() {
  return {{"a.weight", Shape{2, 3}, Init::normal(1.0)},
          {"b.weight", Shape{1, 3}, Init::uniform(0.5), true},
          {"c.bias", Shape{5}, Init::ones()}};
}

}  // namespace

TEST_SUITE_BEGIN("nn/parameters");

TEST_CASE("parameters are views of one flat buffer, aligned unless adjacent") {
  Context ctx(1);
  ParameterStore store(ctx, three(), 1);
  REQUIRE(store.all().size() == 3);
  CHECK(store.parameter_count() == 14);
  CHECK(store.find("a.weight").offset == 0);
  CHECK(store.find("b.weight").offset == 6);
  CHECK(store.find("c.bias").offset == 16);
  CHECK(store.flat_size() == 32);
  CHECK(store.at("c.bias").value().raw() == store.flat().raw() + 16 * 4);
  kernels::fill(ctx, store.flat(), 2.0);
  for (const float x : kernels::to_vector<float>(ctx, store.at("b.weight").value())) CHECK(x == 2.0f);
}

TEST_CASE("initial values depend on seed and name, not on the company") {
  Context ctx(1);
  ParameterStore store(ctx, three(), 1);
  ParameterStore other(ctx,
                       {{"x", Shape{7}, Init::normal(3.0)}, {"a.weight", Shape{2, 3}, Init::normal(1.0)}}, 1);
  ParameterStore reseeded(ctx, three(), 2);
  const auto a = store.at("a.weight").value();
  CHECK(test::same_bits(ctx, a, other.at("a.weight").value()));
  CHECK_FALSE(test::same_bits(ctx, a, reseeded.at("a.weight").value()));
  for (const double u : kernels::to_vector<double>(ctx, store.at("b.weight").value()))
    CHECK(std::abs(u) <= 0.5);
  for (const double one : kernels::to_vector<double>(ctx, store.at("c.bias").value())) CHECK(one == 1.0);
}

TEST_CASE("laws have their moments") {
  Context ctx(1);
  ParameterStore store(
      ctx, {{"n", Shape{20000}, Init::normal(0.02)}, {"u", Shape{20000}, Init::xavier(100, 200)}}, 3);
  const auto moments = [&](const char* name) {
    double sum = 0, squares = 0;
    for (const double x : kernels::to_vector<double>(ctx, store.at(name).value())) {
      sum += x;
      squares += x * x;
    }
    return std::pair{sum / 20000, std::sqrt(squares / 20000)};
  };
  CHECK(moments("n").first == doctest::Approx(0.0).epsilon(0.001));
  CHECK(moments("n").second == doctest::Approx(0.02).epsilon(0.03));
  CHECK(moments("u").second == doctest::Approx(std::sqrt(6.0 / 300.0) / std::sqrt(3.0)).epsilon(0.03));
}

TEST_CASE("a joined leaf shares values and gradients with its parts") {
  Context ctx(1);
  ParameterStore store(ctx, three(), 1);
  const Var joined = store.joined({"a.weight", "b.weight"}, Shape{3, 3});
  const Var x(ctx, kernels::from_vector(ctx, std::vector<float>{1, 2, 3}, Shape{1, 3}));
  backward(sum(linear(x, joined), {}));
  const auto grad = kernels::to_vector<float>(ctx, store.view(store.flat_grad(), store.find("b.weight")));
  CHECK(grad == std::vector<float>{1, 2, 3});
  CHECK(kernels::to_vector<float>(ctx, store.at("b.weight").grad()) == grad);
  store.zero_grad();
  CHECK(kernels::to_vector<float>(ctx, joined.grad()) == std::vector<float>(9, 0.0f));
  CHECK_THROWS_AS(store.joined({"a.weight", "c.bias"}, Shape{11}), ValueError);
  CHECK_THROWS_AS(store.joined({"b.weight", "a.weight"}, Shape{9}), ValueError);
  CHECK_THROWS_AS(store.joined({"a.weight"}, Shape{7}), ShapeError);
}

TEST_CASE("bf16 computes with a copy, gradients stay f32") {
  Context ctx(1);
  ParameterStore store(ctx, three(), 1, DType::bf16);
  CHECK(store.flat().dtype() == DType::f32);
  CHECK(store.flat_grad().dtype() == DType::f32);
  CHECK(store.at("a.weight").dtype() == DType::bf16);
  kernels::fill(ctx, store.flat(), 1.0 + 1.0 / 1024);
  store.refresh();
  CHECK(kernels::to_vector<float>(ctx, store.at("c.bias").value())[0] == 1.0f);
}

TEST_CASE("ScopedWeights puts the own weights back") {
  Context ctx(1);
  ParameterStore store(ctx, three(), 1);
  const Tensor before = kernels::clone(ctx, store.flat());
  const Tensor other = store.zeros_like_flat();
  {
    const ScopedWeights scoped(store, other);
    CHECK(test::same_bits(ctx, store.flat(), other));
  }
  CHECK(test::same_bits(ctx, store.flat(), before));
  {
    ScopedWeights scoped(store, other);
    scoped.restore();
    CHECK(test::same_bits(ctx, store.flat(), before));
    store.load(other);
  }
  CHECK(test::same_bits(ctx, store.flat(), other));
  store.load(before);
  CHECK(test::same_bits(ctx, store.flat(), before));
}

TEST_CASE("errors") {
  Context ctx(1);
  CHECK_THROWS_AS(ParameterStore(ctx, {{"a", Shape{1}, {}}, {"a", Shape{1}, {}}}, 1), ValueError);
  CHECK_THROWS_AS(ParameterStore(ctx, {{"", Shape{1}, {}}}, 1), ValueError);
  CHECK_THROWS_AS(ParameterStore(ctx, three(), 1, DType::i32), DTypeError);
  ParameterStore store(ctx, three(), 1);
  CHECK_THROWS_AS(store.load(ctx.zeros(Shape{3}, DType::f32)), ShapeError);
  try {
    store.at("a.wieght");
    FAIL("no error");
  } catch (const ValueError& e) {
    CHECK(e.hint() == "did you mean \"a.weight\"?");
  }
}

TEST_SUITE_END();

}  // namespace llsa::nn

// The tape: leaves, accumulation, freeing, errors, depth.

#include <doctest/doctest.h>

#include <chrono>
#include <string>

#include "autograd/node.h"
#include "autograd/ops.h"
#include "kernels/copy.h"

using namespace llsa;

TEST_SUITE_BEGIN("autograd/tape");

namespace {

Var leaf(Context& ctx, const std::vector<float>& values) {
  return Var(ctx, kernels::from_vector(ctx, values, {static_cast<std::int64_t>(values.size())}), true);
}

std::vector<float> grad_of(const Var& x) { return kernels::to_vector<float>(x.context(), x.grad()); }
std::vector<float> value_of(const Var& x) { return kernels::to_vector<float>(x.context(), x.value()); }

using Floats = std::vector<float>;

}  // namespace

TEST_CASE("gradients of a small expression") {
  Context ctx(1);
  const Var a = leaf(ctx, {1, 2});
  const Var b = leaf(ctx, {3, 4});
  backward(sum(a * b + a * 2.0));
  CHECK(grad_of(a) == Floats{5, 6});
  CHECK(grad_of(b) == Floats{1, 2});
}

TEST_CASE("a leaf can stop and start to require a gradient, for all its copies") {
  Context ctx(1);
  const auto tensor = [&] { return kernels::from_vector(ctx, std::vector<float>{3.0f}, Shape{1}); };
  Var x(ctx, tensor(), true);
  const Var copy = x, y(ctx, tensor(), true);
  const Var earlier = sum(x * y);
  x.set_requires_grad(false);
  CHECK_FALSE(copy.requires_grad());
  CHECK_FALSE(copy.grad().defined());
  backward(sum(x * y));
  CHECK_FALSE(x.grad().defined());
  CHECK(ctx.item(y.grad()) == 3.0);
  x.set_requires_grad(true);
  CHECK(copy.requires_grad());
  backward(earlier);  // its graph still adds to the gradient that the leaf had at that time
  CHECK_FALSE(x.grad().defined());
  backward(sum(x * y));
  CHECK(ctx.item(copy.grad()) == 3.0);
  CHECK_THROWS_AS(Var(x * y).set_requires_grad(false), ValueError);
  Var ids(ctx, ctx.zeros(Shape{1}, DType::i32));
  CHECK_THROWS_AS(ids.set_requires_grad(true), DTypeError);
}

TEST_CASE("gradients sum over uses and over backwards until zero_grad") {
  Context ctx(1);
  const Var x = leaf(ctx, {1, -1});
  Var copy = x;
  backward(sum(add(x, x) + x));
  CHECK(grad_of(copy) == Floats{3, 3});
  backward(sum(x * x));
  CHECK(grad_of(x) == Floats{5, 1});
  copy.zero_grad();
  CHECK(!x.grad().defined());
  backward(sum(x));
  CHECK(grad_of(x) == Floats{1, 1});
}

TEST_CASE("a gradient handed to two places is not overwritten in either") {
  Context ctx(1);
  const Var a = leaf(ctx, {1, 2});
  const Var b = leaf(ctx, {3, 4});
  const Tensor seed = kernels::from_vector(ctx, Floats{10, 20}, {2});
  const Var y = a + b;
  backward(y, seed, Graph::retain);
  CHECK(a.grad().storage() != b.grad().storage());
  backward(a * 2.0, seed);
  CHECK(grad_of(a) == Floats{30, 60});
  CHECK(grad_of(b) == Floats{10, 20});
  CHECK(kernels::to_vector<float>(ctx, seed) == Floats{10, 20});

  const Var c = leaf(ctx, {1, 1});  // interior: both gradients of an add share dy, then each collects more
  const Var u = c * 2.0;
  const Var v = c * 3.0;
  backward(sum((u + v) + (u * 5.0) + (v * 7.0)));
  CHECK(grad_of(c) == Floats{2 * 6 + 3 * 8, 2 * 6 + 3 * 8});
}

TEST_CASE("a broadcast gradient is not added into in place") {
  Context ctx(1);
  const Var x = leaf(ctx, {1, 2, 3});
  const Var y = x * 1.0;
  backward(add(sum(y), sum(y * y)));  // sum hands on a view with strides 0
  CHECK(grad_of(x) == Floats{3, 5, 7});
  CHECK(x.grad().is_contiguous());
}

TEST_CASE("bound gradients are added into the buffer") {
  Context ctx(1);
  Var x = leaf(ctx, {1, 2});
  const Tensor flat = ctx.zeros({5}, DType::f32);
  x.bind_grad(flat.slice(0, 1, 3));
  backward(sum(x * x));
  backward(sum(x));
  CHECK(kernels::to_vector<float>(ctx, flat) == Floats{0, 3, 5, 0, 0});
  x.zero_grad();
  CHECK(kernels::to_vector<float>(ctx, flat) == Floats{0, 0, 0, 0, 0});

  Var half(ctx, kernels::cast(ctx, x.value(), DType::bf16), true);
  half.bind_grad(flat.slice(0, 3, 5));
  backward(sum(half * half));
  CHECK(kernels::to_vector<float>(ctx, flat) == Floats{0, 0, 0, 2, 4});

  CHECK_THROWS_AS(x.bind_grad(ctx.zeros({3}, DType::f32)), ShapeError);
  CHECK_THROWS_AS(x.bind_grad(ctx.zeros({2}, DType::i32)), DTypeError);
  Var constant(ctx, ctx.zeros({2}, DType::f32));
  CHECK_THROWS_AS(constant.bind_grad(ctx.zeros({2}, DType::f32)), ValueError);
}

TEST_CASE("the first gradient is written over a bound buffer that holds zeros, later ones are added") {
  Context ctx(1);
  const Tensor flat = ctx.zeros({6}, DType::f32);
  Var whole(ctx, kernels::from_vector(ctx, Floats{1, -2, 3, 4, 5, -6}, {2, 3}), true);
  whole.bind_grad(flat.reshape({2, 3}));
  Var part(ctx, kernels::from_vector(ctx, Floats{7, 8, 9}, {3}), true);  // of the same memory
  part.bind_grad(flat.slice(0, 1, 4));
  Var rest(ctx, kernels::from_vector(ctx, Floats{2, 3}, {2}), true);
  rest.bind_grad(flat.slice(0, 4, 6));
  const Var x(ctx, kernels::from_vector(ctx, Floats{1, 2, 3, 4}, {2, 2}));
  const auto product = [&] { return sum(matmul(x, whole)); };
  const auto layer = [&] { return sum(square(linear(x, transpose(whole, 0, 1)))); };
  const auto square_of_part = [&] { return sum(part * part); };
  const auto square_of_rest = [&] { return sum(rest * rest); };
  const auto row = [&] { return sum(square(linear(whole, whole))); };
  for (const auto& loss :
       {add(add(layer(), row()), square_of_part()), add(square_of_part(), row()),
        add(add(product(), square_of_part()), layer()), row(),
        add(add(square_of_rest(), layer()), square_of_part()), add(square_of_rest(), square_of_part())}) {
    kernels::fill(ctx, flat, 0.0);
    backward(loss, {}, Graph::retain);
    const Floats expected = kernels::to_vector<float>(ctx, flat);
    kernels::fill(ctx, flat, 0.0);
    backward(loss, {}, Graph::retain, GradBuffers::zeros);
    CHECK(kernels::to_vector<float>(ctx, flat) == expected);
  }
  kernels::fill(ctx, flat, 100.0);  // contrary to what is said: what is written leaves nothing of it
  backward(product(), {}, Graph::free, GradBuffers::zeros);
  CHECK(kernels::to_vector<float>(ctx, flat) == Floats{4, 4, 4, 6, 6, 6});
  backward(product());
  CHECK(kernels::to_vector<float>(ctx, flat) == Floats{8, 8, 8, 12, 12, 12});
}

TEST_CASE("the gradient of a weight in bf16 reaches an f32 buffer unrounded") {
  Context ctx(1);
  Var w(ctx, kernels::cast(ctx, ctx.zeros({1, 1}, DType::f32), DType::bf16), true);
  w.bind_grad(ctx.zeros({1, 1}, DType::f32));
  const Tensor rows = kernels::from_vector(ctx, Floats{1, 0x1p-10f}, {2, 1});
  const Var x(ctx, kernels::cast(ctx, rows, DType::bf16));
  for (const GradBuffers buffers : {GradBuffers::zeros, GradBuffers::sums}) {
    w.zero_grad();
    backward(sum(linear(x, w)), {}, Graph::free, buffers);
    CHECK(ctx.item(w.grad()) == 1 + 0x1p-10);
  }
}

TEST_CASE("set_value is seen by all copies, and keeps shape and dtype") {
  Context ctx(1);
  Var x = leaf(ctx, {1, 2});
  const Var copy = x;
  x.set_value(kernels::from_vector(ctx, Floats{5, 6}, {2}));
  CHECK(value_of(copy) == Floats{5, 6});
  CHECK_THROWS_AS(x.set_value(ctx.zeros({3}, DType::f32)), ShapeError);
  CHECK_THROWS_AS(x.set_value(ctx.zeros({2}, DType::f64)), DTypeError);
  Var y = x * 2.0;
  CHECK_THROWS_AS(y.set_value(x.value()), ValueError);
}

TEST_CASE("saved tensors and interior gradients are freed by backward") {
  Context ctx(1);
  const Var x = leaf(ctx, Floats(1000, 2.0f));
  const Var y = exp(x);
  const Var loss = sum(y * y);
  CHECK(!y.node()->saved.empty());
  backward(loss);
  CHECK(y.node()->saved.empty());
  CHECK(!y.node()->gradients[0].defined());
  CHECK(loss.node()->inputs.empty());

  const std::size_t before = ctx.allocator()->stats().active;
  { backward(sum(exp(exp(x * 0.1)))); }
  CHECK(ctx.allocator()->stats().active == before);
}

TEST_CASE("a second backward is an error, unless the graph was retained") {
  Context ctx(1);
  const Var x = leaf(ctx, {1, 2});
  const Var loss = sum(x * x);
  backward(loss, {}, Graph::retain);
  backward(loss);
  CHECK(grad_of(x) == Floats{4, 8});
  try {
    backward(loss);
    FAIL("expected an error");
  } catch (const Error& error) {
    CHECK(std::string(error.what()).find("freed by an earlier backward") != std::string::npos);
    CHECK(std::string(error.what()).find("sum") != std::string::npos);
    CHECK(!error.hint().empty());
  }
}

TEST_CASE("what backward refuses") {
  Context ctx(1);
  Context other(1);
  const Var x = leaf(ctx, {1, 2});
  CHECK_THROWS_AS(backward(x * x), ShapeError);
  CHECK_THROWS_AS(backward(sum(x.detach())), ValueError);
  CHECK_THROWS_AS(backward(x * x, ctx.zeros({3}, DType::f32)), ShapeError);
  CHECK_THROWS_AS(backward(x * x, ctx.zeros({2}, DType::f64)), ShapeError);
  CHECK_THROWS_AS(Var(ctx, ctx.zeros({2}, DType::i32), true), DTypeError);
  CHECK_THROWS_AS(add(x, leaf(other, {1, 2})), DeviceError);
  CHECK_THROWS_AS(Var().value(), Error);
}

TEST_CASE("no-grad mode records nothing and nests") {
  Context ctx(1);
  const Var x = leaf(ctx, {1, 2});
  {
    const NoGrad outer;
    { const NoGrad inner; }
    CHECK(!grad_enabled());
    CHECK(!(x * x).requires_grad());
    const EnableGrad again;
    CHECK((x * x).requires_grad());
  }
  CHECK(grad_enabled());
  CHECK((x * x).requires_grad());
  CHECK(!(x.detach() * x.detach()).requires_grad());
}

TEST_CASE("unused outputs of an op with several count as zeros") {
  Context ctx(1);
  const Var x = leaf(ctx, {1, 2, 3, 4});
  const auto parts = split(x, {1, 2, 1}, 0);
  backward(sum(parts[1] * parts[1]));
  CHECK(grad_of(x) == Floats{0, 4, 6, 0});
}

TEST_CASE("the NaN finder names the op") {
  Context ctx(1);
  const Var x = leaf(ctx, {1, 0});
  CHECK_NOTHROW(log(x));
  const FindNonFinite finding;
  const auto message = [](const auto& f) {
    try {
      f();
    } catch (const NonFiniteError& error) {
      return std::string(error.what());
    }
    return std::string("nothing thrown");
  };
  const std::string forward = message([&] { sum(log(exp(x) - 1.0) * 2.0); });
  CHECK(forward.find("[log] the output") != std::string::npos);
  CHECK(forward.find("[2]") != std::string::npos);
  const Var loss = sum(sqrt(x * 2.0));
  const std::string gradient = message([&] { backward(loss, {}, Graph::retain); });
  CHECK(gradient.find("[sqrt] the gradient of input 0") != std::string::npos);
  CHECK(message([&] { backward(loss, {}, Graph::retain); }) == gradient);  // the walk left nothing behind
}

TEST_CASE("200,000 nodes: recorded, walked, destroyed") {
  Context ctx(1);
  const auto begin = std::chrono::steady_clock::now();
  const Var x = leaf(ctx, {1});
  {
    Var y = x;
    for (int i = 0; i < 200000; ++i) y = neg(y);
    backward(y);
    CHECK(grad_of(x) == Floats{1});
  }
  {
    Var y = x;
    for (int i = 0; i < 200000; ++i) y = neg(y);  // never walked: destroyed as it stands
  }
  {
    Var y = x;
    for (int i = 0; i < 20000; ++i) {  // chained through what a function captured
      const Var before = y;
      y = record(
          "hold", {&x}, x.value(), [](BackwardStep& step) { step.add(0, step.take_dy()); }, {}, before);
    }
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  // A walk that is quadratic takes far longer; a sound one, with sanitizers on a busy machine, does not.
  CHECK(seconds.count() < 120.0);
}

TEST_SUITE_END();

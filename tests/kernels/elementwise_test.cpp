#include "kernels/elementwise.h"

#include <doctest/doctest.h>

#include <functional>
#include <limits>

#include "tests/support/kernels.h"

using namespace llsa;
using namespace llsa::kernels;
using namespace llsa::test;

namespace {

constexpr DType kTypes[] = {DType::f32, DType::f64, DType::bf16};

double rounding_limit(DType dtype) { return dtype == DType::f64 ? 1e-14 : dtype == DType::f32 ? 1e-6 : 6e-3; }

struct Unary {
  const char* name;
  Tensor (*kernel)(Context&, const Tensor&);
  double (*definition)(double);
  bool positive;
};

double tanh_gelu(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}
double erf_gelu(double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }

const Unary kUnary[] = {
    {"exp", exp, [](double x) { return std::exp(x); }, false},
    {"log", log, [](double x) { return std::log(x); }, true},
    {"sqrt", sqrt, [](double x) { return std::sqrt(x); }, true},
    {"neg", neg, [](double x) { return -x; }, false},
    {"tanh", tanh, [](double x) { return std::tanh(x); }, false},
    {"sigmoid", sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }, false},
    {"relu", relu, [](double x) { return std::max(x, 0.0); }, false},
    {"square", square, [](double x) { return x * x; }, false},
    {"silu", silu, [](double x) { return x / (1 + std::exp(-x)); }, false},
    {"gelu_tanh", gelu_tanh, tanh_gelu, false},
    {"gelu_erf", gelu_erf, erf_gelu, false},
};

struct Backward {
  const char* name;
  Tensor (*kernel)(Context&, const Tensor&, const Tensor&);
  Tensor (*forward)(Context&, const Tensor&);
  bool from_output;
};

const Backward kBackward[] = {
    {"tanh", tanh_backward, tanh, true},
    {"sigmoid", sigmoid_backward, sigmoid, true},
    {"relu", relu_backward, relu, false},
    {"silu", silu_backward, silu, false},
    {"gelu_tanh", gelu_tanh_backward, gelu_tanh, false},
    {"gelu_erf", gelu_erf_backward, gelu_erf, false},
};

}  // namespace

TEST_SUITE_BEGIN("kernels/elementwise");

TEST_CASE("functions equal their definitions in f64") {
  Context ctx(2);
  for (const Unary& f : kUnary) {
    for (const DType dtype : kTypes) {
      for (const std::int64_t n : {0, 1, 31, 33, 257, 40000}) {
        CAPTURE(f.name);
        CAPTURE(name_of(dtype));
        CAPTURE(n);
        Tensor x = random_tensor(ctx, Shape{n}, dtype, 1, 3.0);
        if (f.positive) x = affine(ctx, square(ctx, x), 1.0, 0.01);
        auto values = to_vector<double>(ctx, x);
        for (double& value : values) value = f.definition(value);
        CHECK(relative_error(ctx, f.kernel(ctx, x), from_vector(ctx, values, Shape{n})) <=
              rounding_limit(dtype));
      }
    }
  }
}

TEST_CASE("derivatives equal central differences") {
  Context ctx(1);
  const Tensor x = random_tensor(ctx, Shape{501}, DType::f64, 1, 2.0),
               dy = random_tensor(ctx, Shape{501}, DType::f64, 2);
  for (const Backward& f : kBackward) {
    CAPTURE(f.name);
    const double h = 1e-5;
    const Tensor slope =
        affine(ctx, sub(ctx, f.forward(ctx, affine(ctx, x, 1, h)), f.forward(ctx, affine(ctx, x, 1, -h))),
               0.5 / h, 0);
    const Tensor saved = f.from_output ? f.forward(ctx, x) : x;
    const Tensor dx = f.kernel(ctx, dy, saved);
    CHECK(relative_error(ctx, dx, mul(ctx, dy, slope)) <= 1e-8);
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const Tensor low = f.kernel(ctx, cast(ctx, dy, dtype), cast(ctx, saved, dtype));
      const Tensor reference = f.kernel(ctx, cast(ctx, cast(ctx, dy, dtype), DType::f64),
                                        cast(ctx, cast(ctx, saved, dtype), DType::f64));
      CHECK(relative_error(ctx, low, reference) <= rounding_limit(dtype));
    }
  }
}

TEST_CASE("extreme arguments") {
  Context ctx(1);
  const double inf = std::numeric_limits<double>::infinity();
  for (const DType dtype : kTypes) {
    CAPTURE(name_of(dtype));
    const auto at = [&](Tensor (*f)(Context&, const Tensor&), double value) {
      return to_vector<double>(ctx, f(ctx, cast(ctx, from_vector<double>(ctx, {value}, Shape{1}), dtype)))[0];
    };
    const auto slope_at = [&](Tensor (*f)(Context&, const Tensor&, const Tensor&), double value) {
      const Tensor one = cast(ctx, from_vector<double>(ctx, {1.0}, Shape{1}), dtype);
      return to_vector<double>(ctx,
                               f(ctx, one, cast(ctx, from_vector<double>(ctx, {value}, Shape{1}), dtype)))[0];
    };
    for (const Unary& f : kUnary) {
      CAPTURE(f.name);
      CHECK(std::isnan(at(f.kernel, std::nan(""))));
    }
    for (const Backward& f : kBackward) {
      CAPTURE(f.name);
      CHECK(std::isnan(slope_at(f.kernel, std::nan(""))));
    }
    CHECK(at(exp, -inf) == 0.0);
    CHECK(at(exp, inf) == inf);
    CHECK(at(log, 0.0) == -inf);
    CHECK(std::isnan(at(log, -1.0)));
    CHECK(std::isnan(at(sqrt, -1.0)));
    for (const auto f : {gelu_tanh, gelu_erf, silu}) {
      CHECK(at(f, 1000.0) == doctest::Approx(1000.0));
      CHECK(std::abs(at(f, -1000.0)) <= 1e-30);
      CHECK(at(f, inf) == inf);
    }
    for (const auto f : {gelu_tanh_backward, gelu_erf_backward, silu_backward}) {
      for (const double large : {200.0, 1e4, 1e30, inf}) {
        CHECK(slope_at(f, large) == 1.0);
        CHECK(std::abs(slope_at(f, -large)) <= 1e-30);
      }
    }
  }
}

TEST_CASE("arithmetic broadcasts over any strides") {
  Context ctx(2);
  const std::function<double(double, double)> definitions[] = {std::plus<>(), std::minus<>(),
                                                               std::multiplies<>(), std::divides<>()};
  Tensor (*const kernels[])(Context&, const Tensor&, const Tensor&) = {add, sub, mul, div};
  for (const DType dtype : kTypes) {
    const Tensor full = random_tensor(ctx, Shape{2, 257, 33}, dtype, 1);
    const Tensor other = affine(ctx, square(ctx, random_tensor(ctx, Shape{2, 257, 33}, dtype, 2)), 1.0, 0.5);
    const std::vector<Tensor> partners = {other,
                                          other.slice(0, 0, 1),
                                          other.slice(1, 3, 4),
                                          other.slice(2, 5, 6),
                                          other.select(0, 1),
                                          other.select(0, 1).select(0, 1),
                                          other.slice(0, 0, 1).slice(1, 0, 1).slice(2, 0, 1).reshape({}),
                                          transposed_in_memory(ctx, other),
                                          with_gaps(ctx, other)};
    for (const Tensor& b : partners) {
      const auto x = to_vector<double>(ctx, full), y = to_vector<double>(ctx, b.expand(full.shape()));
      for (std::size_t op = 0; op < 4; ++op) {
        CAPTURE(op);
        CAPTURE(b.shape().str());
        std::vector<double> forward(x.size()), swapped(x.size());
        for (std::size_t i = 0; i < x.size(); ++i) {
          forward[i] = definitions[op](x[i], y[i]);
          swapped[i] = definitions[op](y[i], x[i]);
        }
        CHECK(relative_error(ctx, kernels[op](ctx, full, b), from_vector(ctx, forward, full.shape())) <=
              rounding_limit(dtype));
        CHECK(relative_error(ctx, kernels[op](ctx, b, transposed_in_memory(ctx, full)),
                             from_vector(ctx, swapped, full.shape())) <= rounding_limit(dtype));
      }
    }
  }
  CHECK(add(ctx, ctx.zeros(Shape{4, 1}, DType::f32), ctx.zeros(Shape{1, 0}, DType::f32)).shape() ==
        Shape{4, 0});
}

TEST_CASE("affine scales and shifts") {
  Context ctx(1);
  const Tensor x = from_vector<double>(ctx, {1.0, -2.0}, Shape{2});
  CHECK(to_vector<double>(ctx, affine(ctx, x, 3.0, 0.5)) == std::vector<double>{3.5, -5.5});
}

TEST_CASE("accumulate adds into views, broadcasting") {
  Context ctx(2);
  for (const DType dtype : kTypes) {
    const Tensor into = ctx.zeros(Shape{3, 4}, dtype);
    fill(ctx, into, 1.0);
    const Tensor x = cast(ctx, from_vector<float>(ctx, {1, 2, 3}, Shape{3}), dtype);
    accumulate(ctx, x, into.transpose(0, 1).slice(0, 1, 4, 2));
    CHECK(to_vector<float>(ctx, into) == std::vector<float>{1, 2, 1, 2, 1, 3, 1, 3, 1, 4, 1, 4});
  }
  CHECK_THROWS_AS(accumulate(ctx, ctx.zeros(Shape{3}, DType::f32), ctx.zeros(Shape{4}, DType::f32)),
                  ShapeError);
}

TEST_CASE("all_finite sees one bad element anywhere") {
  Context ctx(2);
  for (const DType dtype : kTypes) {
    for (const double bad :
         {std::nan(""), std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()}) {
      for (const std::int64_t at : {0, 31, 16384, 40000}) {
        const Tensor x = random_tensor(ctx, Shape{40001}, dtype, 1, 1e4);
        CHECK(ctx.item(all_finite(ctx, x)) == 1.0);
        fill(ctx, x.slice(0, at, at + 1), bad);
        CHECK(ctx.item(all_finite(ctx, x)) == 0.0);
      }
    }
  }
  CHECK(ctx.item(all_finite(ctx, ctx.zeros(Shape{0}, DType::f32))) == 1.0);
}

TEST_CASE("any number of threads gives the same bits") {
  CHECK(same_bits_for_any_threads([](Context& ctx) {
    const Tensor x = random_tensor(ctx, Shape{300, 257}, DType::f32, 1),
                 row = random_tensor(ctx, Shape{257}, DType::f32, 2);
    return std::vector<Tensor>{mul(ctx, x, row), gelu_tanh(ctx, x),
                               div(ctx, x.transpose(0, 1), random_tensor(ctx, Shape{300}, DType::f32, 3))};
  }));
}

TEST_CASE("arguments that do not fit are named") {
  Context ctx(1);
  const Tensor x = ctx.zeros(Shape{2, 3}, DType::f32);
  CHECK_THROWS_AS(add(ctx, x, ctx.zeros(Shape{2}, DType::f32)), ShapeError);
  CHECK_THROWS_WITH_AS(mul(ctx, x, cast(ctx, x, DType::bf16)),
                       "[mul] expected a and b of one dtype, got f32 and bf16", DTypeError);
  CHECK_THROWS_WITH_AS(exp(ctx, cast(ctx, x, DType::i64)),
                       "[exp] expected x of dtype f32, bf16 or f64, got i64", DTypeError);
  CHECK_THROWS_WITH_AS(relu_backward(ctx, ctx.zeros(Shape{3, 2}, DType::f32), x),
                       "[relu_backward] expected dy of shape [2,3], got [3,2]", ShapeError);
}

TEST_SUITE_END();

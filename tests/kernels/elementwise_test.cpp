#include "kernels/elementwise.h"

#include <doctest/doctest.h>

#include <functional>
#include <limits>
#include <string_view>

#include "tests/support/kernels.h"

using namespace llsa;
using namespace llsa::kernels;
using namespace llsa::test;

namespace {

constexpr DType kTypes[] = {DType::f32, DType::f64, DType::bf16};

double rounding_limit(DType dtype) { return dtype == DType::f64 ? 1e-14 : dtype == DType::f32 ? 1e-6 : 6e-3; }

double definition(UnaryOp op, double x) {
  switch (op) {
    case UnaryOp::exp:
      return std::exp(x);
    case UnaryOp::log:
      return std::log(x);
    case UnaryOp::sqrt:
      return std::sqrt(x);
    case UnaryOp::neg:
      return -x;
    case UnaryOp::abs:
      return std::abs(x);
    case UnaryOp::square:
      return x * x;
    case UnaryOp::tanh:
      return std::tanh(x);
    case UnaryOp::sigmoid:
      return 1 / (1 + std::exp(-x));
    case UnaryOp::relu:
      return std::max(x, 0.0);
    case UnaryOp::silu:
      return x / (1 + std::exp(-x));
    case UnaryOp::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case UnaryOp::gelu_erf:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
  }
  return 0;
}

struct Unary {
  const char* name;
  UnaryOp op;
  Tensor (*kernel)(Context&, const Tensor&);
  std::string_view saves;

  bool positive() const { return op == UnaryOp::log || op == UnaryOp::sqrt; }
  Tensor backward(Context& ctx, const Tensor& dy, const Tensor& saved) const {
    return unary_backward(ctx, op, dy, saved);
  }
};

#define LLSA_ROW(name, saves, ...) {#name, UnaryOp::name, name, #saves},
const Unary kUnary[] = {LLSA_UNARY_OPS(LLSA_ROW)};
#undef LLSA_ROW

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
        if (f.positive()) x = affine(ctx, square(ctx, x), 1.0, 0.01);
        auto values = to_vector<double>(ctx, x);
        for (double& value : values) value = definition(f.op, value);
        CHECK(relative_error(ctx, f.kernel(ctx, x), from_vector(ctx, values, Shape{n})) <=
              rounding_limit(dtype));
      }
    }
  }
}

TEST_CASE("derivatives equal central differences") {
  Context ctx(1);
  const Tensor any = random_tensor(ctx, Shape{501}, DType::f64, 1, 2.0),
               positive = affine(ctx, square(ctx, any), 1.0, 0.5),
               dy = random_tensor(ctx, Shape{501}, DType::f64, 2);
  for (const Unary& f : kUnary) {
    CAPTURE(f.name);
    const double h = 1e-5;
    const Tensor x = f.positive() ? positive : any;
    const Tensor slope = affine(
        ctx, sub(ctx, f.kernel(ctx, affine(ctx, x, 1, h)), f.kernel(ctx, affine(ctx, x, 1, -h))), 0.5 / h, 0);
    const Tensor saved = f.saves == "y" ? f.kernel(ctx, x) : f.saves == "x" ? x : dy;
    CHECK(relative_error(ctx, f.backward(ctx, dy, saved), mul(ctx, dy, slope)) <= 1e-8);
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const Tensor low_dy = cast(ctx, dy, dtype), low_saved = cast(ctx, saved, dtype);
      CHECK(relative_error(ctx, f.backward(ctx, low_dy, low_saved),
                           f.backward(ctx, cast(ctx, low_dy, DType::f64),
                                      cast(ctx, low_saved, DType::f64))) <= rounding_limit(dtype));
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
    const auto slope_at = [&](UnaryOp op, double saved) {
      const auto number = [&](double value) {
        return cast(ctx, from_vector<double>(ctx, {value}, Shape{1}), dtype);
      };
      return to_vector<double>(ctx, unary_backward(ctx, op, number(1.0), number(saved)))[0];
    };
    for (const Unary& f : kUnary) {
      CAPTURE(f.name);
      CHECK(std::isnan(at(f.kernel, std::nan(""))));
      if (f.saves != "nothing") CHECK(std::isnan(slope_at(f.op, std::nan(""))));
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
    for (const UnaryOp f : {UnaryOp::gelu_tanh, UnaryOp::gelu_erf, UnaryOp::silu}) {
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

TEST_CASE("comparisons, maximum and minimum follow NumPy where there is a NaN") {
  Context ctx(2);
  const double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
  const std::vector<double> x = {1, 2, 2, -inf, inf, nan, 3, nan, -0.0},
                            y = {2, 1, 2, 0, inf, 1, nan, nan, 0};
  struct Case {
    const char* name;
    Tensor (*kernel)(Context&, const Tensor&, const Tensor&);
    std::vector<double> expected;
  };
  const Case cases[] = {{"greater", greater, {0, 1, 0, 0, 0, 0, 0, 0, 0}},
                        {"less", less, {1, 0, 0, 1, 0, 0, 0, 0, 0}},
                        {"greater_equal", greater_equal, {0, 1, 1, 0, 1, 0, 0, 0, 1}},
                        {"less_equal", less_equal, {1, 0, 1, 1, 1, 0, 0, 0, 1}},
                        {"equal", equal, {0, 0, 1, 0, 1, 0, 0, 0, 1}},
                        {"not_equal", not_equal, {1, 1, 0, 1, 0, 1, 1, 1, 0}},
                        {"maximum", maximum, {2, 2, 2, 0, inf, nan, nan, nan, 0}},
                        {"minimum", minimum, {1, 1, 2, -inf, inf, nan, nan, nan, 0}}};
  for (const DType dtype : kTypes) {
    const auto tensor = [&](const std::vector<double>& values) {
      return cast(ctx, from_vector(ctx, values, Shape{9}), dtype);
    };
    for (const Case& c : cases) {
      CAPTURE(c.name);
      const Tensor found = c.kernel(ctx, tensor(x), tensor(y));
      CHECK(found.dtype() == dtype);
      const auto values = to_vector<double>(ctx, found);
      for (std::size_t i = 0; i < values.size(); ++i) {
        CAPTURE(i);
        CHECK((values[i] == c.expected[i] || (std::isnan(values[i]) && std::isnan(c.expected[i]))));
      }
    }
    const Tensor table = greater(ctx, tensor(x).slice(0, 0, 3).unsqueeze(1), tensor(y).slice(0, 0, 2));
    CHECK(to_vector<double>(ctx, table) == std::vector<double>{0, 0, 0, 1, 0, 1});
  }
}

TEST_CASE("clamp keeps NaN, takes infinite limits, and refuses limits in disorder") {
  Context ctx(1);
  const double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
  for (const DType dtype : kTypes) {
    const Tensor x = cast(ctx, from_vector<double>(ctx, {-inf, -2, -1, 0.5, 2, 3, inf, nan}, Shape{8}),
                          dtype),
                 dy = affine(ctx, ctx.zeros(Shape{8}, dtype), 1.0, 3.0);
    auto y = to_vector<double>(ctx, clamp(ctx, x, -1, 2));
    CHECK(std::isnan(y.back()));
    y.pop_back();
    CHECK(y == std::vector<double>{-1, -1, -1, 0.5, 2, 2, 2});
    CHECK(to_vector<double>(ctx, clamp_backward(ctx, dy, x, -1, 2)) ==
          std::vector<double>{0, 0, 3, 3, 3, 0, 0, 0});
    CHECK(to_vector<double>(ctx, clamp(ctx, x, 0, inf).slice(0, 0, 6)) ==
          std::vector<double>{0, 0, 0, 0.5, 2, 3});
  }
  CHECK_THROWS_WITH_AS(clamp(ctx, ctx.zeros(Shape{1}, DType::f32), 1, 0.5),
                       "[clamp] expected low <= high, got 1 and 0.5", ValueError);
  CHECK_THROWS_AS(clamp(ctx, ctx.zeros(Shape{1}, DType::f32), nan, 1), ValueError);
}

TEST_CASE("where chooses element by element, with conditions of any dtype and strides") {
  Context ctx(2);
  const double nan = std::nan("");
  for (const DType dtype : kTypes) {
    const Tensor condition = random_tensor(ctx, Shape{3, 257, 33}, dtype, 1),
                 mask = greater(ctx, condition, ctx.zeros(Shape{}, dtype)),
                 a = random_tensor(ctx, Shape{257, 33}, dtype, 2),
                 b = random_tensor(ctx, Shape{3, 1, 33}, dtype, 3);
    const auto m = to_vector<double>(ctx, mask), x = to_vector<double>(ctx, a.expand(mask.shape())),
               y = to_vector<double>(ctx, b.expand(mask.shape()));
    std::vector<double> expected(m.size());
    for (std::size_t i = 0; i < m.size(); ++i) expected[i] = m[i] != 0 ? x[i] : y[i];
    for (const DType other : {dtype, DType::i32, DType::f32}) {
      const Tensor chosen = cast(ctx, mask, other);
      CHECK(to_vector<double>(ctx, where(ctx, chosen, a, b)) == expected);
      CHECK(to_vector<double>(ctx, where(ctx, transposed_in_memory(ctx, chosen), a, b)) == expected);
    }
  }
  const Tensor one = ctx.zeros(Shape{1}, DType::f32),
               bad = from_vector<float>(ctx, {static_cast<float>(nan)}, Shape{1});
  CHECK(ctx.item(where(ctx, one, bad, one)) == 0.0);
  CHECK_THROWS_WITH_AS(where(ctx, one, one, cast(ctx, one, DType::f64)),
                       "[where] expected a and b of one dtype, got f32 and f64", DTypeError);
  CHECK_THROWS_AS(where(ctx, ctx.zeros(Shape{2}, DType::f32), ctx.zeros(Shape{3}, DType::f32), one),
                  ShapeError);
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
}

TEST_SUITE_END();

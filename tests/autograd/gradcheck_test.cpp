// The gradient check must find what is wrong.

#include "autograd/gradcheck.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "autograd/node.h"
#include "autograd/ops.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/random.h"

using namespace llsa;

TEST_SUITE_BEGIN("autograd/gradcheck");

namespace {

Var make(Context& ctx, const Shape& shape) {
  return Var(ctx, kernels::random_normal(ctx, shape, DType::f64, 5, 1));
}

/// An op whose backward is off in one element: by a factor, or by a NaN.
template <bool nan>
std::vector<Var> wrong(const std::vector<Var>& x) {
  return {record(
      "wrong", {&x[0]}, kernels::square(x[0].context(), x[0].value()),
      [](BackwardStep& step) {
        const Tensor twice = kernels::affine(step.context(), step.dy(), 2.0, 0.0);
        const Tensor dx = kernels::mul(step.context(), twice, step.saved(0));
        double& element = dx.data<double>()[4];
        element = nan ? std::numeric_limits<double>::quiet_NaN() : element * 1.001;
        step.add(0, dx);
      },
      saving(x[0].value()))};
}

}  // namespace

TEST_CASE("right gradients pass, over several inputs and outputs") {
  Context ctx(1);
  const auto result = gradcheck(
      [](const std::vector<Var>& x) {
        return std::vector<Var>{x[0] * x[1], exp(x[0])};
      },
      {make(ctx, {2, 3}), make(ctx, {3})});
  CHECK(result.ok);
  CHECK(result.checked == 9);
  CHECK(result.worst < 1e-8);
}

TEST_CASE("a wrong element is found and named") {
  Context ctx(1);
  const auto result = gradcheck(wrong<false>, {make(ctx, {2, 3})});
  CHECK(!result.ok);
  CHECK(result.input == 0);
  CHECK(result.index == std::vector<std::int64_t>{1, 1});
  CHECK(result.str().find("input 0 [1,1]") != std::string::npos);
}

TEST_CASE("a NaN does not pass") {
  Context ctx(1);
  const auto result = gradcheck(wrong<true>, {make(ctx, {2, 3})});
  CHECK(!result.ok);
  CHECK(std::isnan(result.worst));
  CHECK(result.index == std::vector<std::int64_t>{1, 1});
}

TEST_CASE("inputs that are not to be checked, and inputs of the wrong dtype") {
  Context ctx(1);
  const Var x = make(ctx, {3});
  const auto product = [](const std::vector<Var>& in) { return std::vector<Var>{in[0] * in[1]}; };
  CHECK(gradcheck(product, {x, x}, {false, true}).checked == 3);
  const Var narrow(ctx, kernels::cast(ctx, x.value(), DType::f32));
  CHECK_THROWS_AS(gradcheck(product, {narrow, narrow}), DTypeError);
}

TEST_SUITE_END();

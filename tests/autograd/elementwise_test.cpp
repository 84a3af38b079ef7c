#include "autograd/elementwise.h"

#include <doctest/doctest.h>

#include "autograd/reduce.h"
#include "kernels/make.h"

using namespace llsa;

namespace {

std::vector<double> values(const Var& x) { return to_vector<double>(x.context(), x.value()); }

}  // namespace

TEST_SUITE_BEGIN("autograd/elementwise");

TEST_CASE("numbers stand on either side of an operator") {
  Context ctx(1);
  const Var x(ctx, from_vector<double>(ctx, {1, 2, 4}, {3}), true);
  CHECK(values(x + 0.5) == std::vector<double>{1.5, 2.5, 4.5});
  CHECK(values(0.5 + x) == std::vector<double>{1.5, 2.5, 4.5});
  CHECK(values(x - 0.5) == std::vector<double>{0.5, 1.5, 3.5});
  CHECK(values(0.5 - x) == std::vector<double>{-0.5, -1.5, -3.5});
  CHECK(values(x * 2) == std::vector<double>{2, 4, 8});
  CHECK(values(2 * x) == std::vector<double>{2, 4, 8});
  CHECK(values(x / 2) == std::vector<double>{0.5, 1, 2});
  CHECK(values(2 / x) == std::vector<double>{2, 1, 0.5});
  CHECK(values(x > 2) == std::vector<double>{0, 0, 1});
  CHECK(values(2 > x) == std::vector<double>{1, 0, 0});
  CHECK(values(x >= 2) == std::vector<double>{0, 1, 1});
  CHECK(values(2 >= x) == std::vector<double>{1, 1, 0});
  CHECK(values(x < 2) == std::vector<double>{1, 0, 0});
  CHECK(values(2 <= x) == std::vector<double>{0, 1, 1});
  CHECK(values(x == 2) == std::vector<double>{0, 1, 0});
  CHECK(values(2 != x) == std::vector<double>{1, 0, 1});
  CHECK(values(x == x) == std::vector<double>{1, 1, 1});
  CHECK(values(x < x) == std::vector<double>{0, 0, 0});

  backward(sum((3 - x) + 8 / x));
  CHECK(to_vector<double>(ctx, x.grad()) == std::vector<double>{-9, -3, -1.5});
}

TEST_CASE("comparisons have no gradient, and choose what where hands its gradient to") {
  Context ctx(1);
  const Var x(ctx, from_vector<double>(ctx, {-1, 2, 4}, {3}), true),
      y(ctx, from_vector<double>(ctx, {0, 2, 5}, {3}), true);
  CHECK(!(x > y).requires_grad());
  backward(sum(where(x > 0, x * x, y) + maximum(x, y)));
  CHECK(to_vector<double>(ctx, x.grad()) == std::vector<double>{0, 5, 8});
  CHECK(to_vector<double>(ctx, y.grad()) == std::vector<double>{2, 0, 1});
  CHECK(to_vector<std::int32_t>(ctx, argmax(x, 0)) == std::vector<std::int32_t>{2});
}

TEST_SUITE_END();

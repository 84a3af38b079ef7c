#include "autograd/loss.h"

#include <doctest/doctest.h>

#include <string>

#include "autograd/view.h"
#include "kernels/make.h"
#include "tests/support/tensors.h"

namespace llsa {

TEST_SUITE_BEGIN("autograd/loss");

TEST_CASE("cross_entropy of a sequence is that of its tokens as rows") {
  Context ctx(1);
  const Tensor logits = randn(ctx, {2, 5, 7}, 1), labels = randint(ctx, {5, 2}, 0, 7, 2).transpose(0, 1);
  const Var x(ctx, logits, true), rows(ctx, logits.reshape({10, 7}), true);
  const Var loss = cross_entropy(x, labels);
  const Var same = cross_entropy(rows, clone(ctx, labels).reshape({10}));
  backward(loss);
  backward(same);
  CHECK(loss.item() == same.item());
  CHECK(x.grad().shape() == Shape{2, 5, 7});
  CHECK(test::same_bits(ctx, x.grad().reshape({10, 7}), rows.grad()));
  for (const Shape& shape : {Shape{5, 2}, Shape{10}, Shape{}}) {
    const std::string expected =
        "[cross_entropy] expected labels of shape [2,5] for logits of shape [2,5,7], got " + shape.str();
    CHECK_THROWS_WITH_AS(cross_entropy(x, randint(ctx, shape, 0, 7, 2)), expected.c_str(), ShapeError);
  }
  CHECK_THROWS_AS(cross_entropy(Var(ctx, randn(ctx, {}, 1)), labels), ShapeError);
}

TEST_SUITE_END();

}  // namespace llsa

// Views: when they share memory, and what they refuse.

#include "autograd/view.h"

#include <doctest/doctest.h>

#include <limits>

#include "autograd/attention.h"
#include "autograd/copy.h"
#include "autograd/reduce.h"
#include "autograd/saved_report.h"
#include "kernels/copy.h"
#include "kernels/random.h"

using namespace llsa;

TEST_SUITE_BEGIN("autograd/view");

namespace {

Var numbers(Context& ctx, const Shape& shape) {
  return Var(ctx, kernels::random_normal(ctx, shape, DType::f32, 9, 1), true);
}

bool same_storage(const Var& a, const Var& b) { return a.value().storage() == b.value().storage(); }

}  // namespace

TEST_CASE("reshape is a view where strides allow, otherwise a copy with the same elements") {
  Context ctx(1);
  const Var x = numbers(ctx, {4, 6, 10});
  CHECK(same_storage(reshape(x, {24, 10}), x));
  CHECK(same_storage(reshape(x, Shape{4, 60}), x));
  CHECK(same_storage(reshape(x, {-1}), x));

  const Var part = slice(x, 2, 2, 8);  // [4,6,6], rows with gaps: they split, and merge among themselves
  CHECK(same_storage(reshape(part, {4, 6, 2, 3}), x));
  CHECK(same_storage(reshape(part, {24, 6}), x));
  CHECK(same_storage(reshape(part, {2, 2, 1, 3, 2, 6}), x));
  const Var flat = reshape(part, {4, 36});
  CHECK(!same_storage(flat, x));
  CHECK(kernels::to_vector<float>(ctx, flat.value()) == kernels::to_vector<float>(ctx, part.value()));

  const Var turned = transpose(x, 0, 1);
  CHECK(!same_storage(reshape(turned, {24, 10}), x));
  CHECK(same_storage(reshape(turned, {6, 2, 2, 5, 2}), x));
  CHECK(reshape(Var(ctx, ctx.zeros({0, 3}, DType::f32)), {3, 0}).shape() == Shape{3, 0});
}

TEST_CASE("heads are merged without a copy") {
  Context ctx(1);
  const Var q = numbers(ctx, {2, 3, 8, 4});
  const Var o = full_attention(q, q, q);
  const Var merged = reshape(permute(o, {0, 2, 1, 3}), {2, 8, 12});
  CHECK(same_storage(merged, o));
  CHECK(same_storage(contiguous(merged), o));
}

TEST_CASE("what views refuse") {
  Context ctx(1);
  const Var x = numbers(ctx, {4, 6});
  CHECK_THROWS_AS(reshape(x, {5, 5}), ShapeError);
  CHECK_THROWS_AS(reshape(x, {-1, -1}), ShapeError);
  CHECK_THROWS_AS(reshape(x, {-1, 5}), ShapeError);
  CHECK_THROWS_AS(split(x, {1, 2}, 0), ShapeError);
  CHECK_THROWS_AS(split(x, {1, std::numeric_limits<std::int64_t>::max()}, 0), ShapeError);
  CHECK_THROWS_AS(split(x, {5, -1}, 0), ShapeError);
  CHECK_THROWS_AS(chunk(x, 5, 1), ShapeError);
  CHECK_THROWS_AS(chunk(slice(x, 0, 0, 0), std::numeric_limits<int>::max(), 0), ShapeError);
  CHECK(chunk(slice(x, 0, 0, 0), 3, 0).size() == 3);
  CHECK_THROWS_AS(chunk(x, 0, 1), ShapeError);
  CHECK_THROWS_AS(slice(x, 2, 0, 1), ShapeError);
  CHECK_THROWS_AS(expand(x, Shape{4, 7}), ShapeError);
  CHECK_THROWS_AS(concat({}, 0), ValueError);
  CHECK_THROWS_AS(cast(x, DType::i32), DTypeError);
  CHECK(cast(x.detach(), DType::i32).dtype() == DType::i32);
}

TEST_CASE("LLSA saves memory in proportion to the tokens") {
  Context ctx(1);
  const auto saved = [&ctx](std::int64_t tokens) {
    const Var q = numbers(ctx, {1, 1, tokens, 8});
    std::size_t bytes = 0;
    for (const SavedRow& row :
         saved_report(sum(llsa_attention(q, q, q, {.block = 4, .topk = {2}, .levels = 2}))))
      bytes += row.bytes;
    return static_cast<double>(bytes);
  };
  CHECK(saved(4096) <= 4.1 * saved(1024));
}

TEST_SUITE_END();

// Embedding tables and token orders against plain loops.
#include "kernels/index.h"

#include "tests/support/kernels.h"

TEST_SUITE_BEGIN("kernels/index");

using namespace llsa;
using namespace llsa::test;

namespace {

Tensor numbers(Context& ctx, const std::vector<std::int32_t>& values) {
  return kernels::from_vector(ctx, values, Shape{static_cast<std::int64_t>(values.size())});
}

/// A permutation of 0..n-1.
std::vector<std::int32_t> shuffled(std::int32_t n) {
  std::vector<std::int32_t> order(static_cast<std::size_t>(n));
  for (std::int32_t i = 0; i < n; ++i) order[static_cast<std::size_t>(i)] = i;
  const Philox philox{4, 4};
  for (std::uint32_t i = static_cast<std::uint32_t>(n); i > 1; --i)
    std::swap(order[i - 1], order[philox.below(i, i)]);
  return order;
}

std::vector<std::int32_t> draws(std::size_t count, std::uint32_t n) {
  std::vector<std::int32_t> out(count);
  for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<std::int32_t>(Philox{5, 5}.below(i, n));
  return out;
}

}  // namespace

TEST_CASE("embedding forward and backward for every dtype, odd widths, strided input") {
  Context ctx(2);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    for (const std::int64_t c : {1, 31, 33, 257}) {
      CAPTURE(name_of(dtype));
      CAPTURE(c);
      const Tensor table = random_tensor(ctx, Shape{5, c}, dtype, 1);
      const std::vector<std::int32_t> id = draws(42, 4);  // row 4 does not occur
      const Tensor ids = kernels::from_vector(ctx, id, Shape{6, 7});
      const Values t = values_of(ctx, table);
      Values want;
      for (const std::int32_t i : id)
        for (std::int64_t j = 0; j < c; ++j) want.push_back(t[static_cast<std::size_t>(i * c + j)]);
      for (const Tensor& input : {table, with_gaps(ctx, table), transposed_in_memory(ctx, table)}) {
        const Tensor y = kernels::embedding(ctx, input, transposed_in_memory(ctx, ids));
        CHECK(y.shape() == Shape{6, 7, c});
        CHECK(values_of(ctx, y) == want);
      }
      const Tensor dy = random_tensor(ctx, Shape{6, 7, c}, dtype, 2);
      const Values g = values_of(ctx, dy);
      Values dt(t.size());
      for (std::size_t r = 0; r < id.size(); ++r)
        for (std::size_t j = 0; j < static_cast<std::size_t>(c); ++j)
          dt[static_cast<std::size_t>(id[r]) * static_cast<std::size_t>(c) + j] +=
              g[r * static_cast<std::size_t>(c) + j];
      const Tensor dtable = kernels::embedding_backward(ctx, with_gaps(ctx, dy), ids, 5);
      CHECK(dtable.shape() == Shape{5, c});
      CHECK(deviation(ctx, dtable, dt) <= tolerance(dtype));
    }
  }
}

TEST_CASE("gather_tokens, and its inverse order as backward") {
  Context ctx(2);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    for (const std::int32_t n : {1, 31, 33, 257}) {
      const Tensor x = random_tensor(ctx, Shape{2, n, 5}, dtype, 1);
      const std::vector<std::int32_t> order = shuffled(n);
      const Values v = values_of(ctx, x);
      Values want;
      for (std::int32_t b = 0; b < 2; ++b)
        for (const std::int32_t i : order)
          for (std::int32_t j = 0; j < 5; ++j)
            want.push_back(v[static_cast<std::size_t>((b * n + i) * 5 + j)]);
      const Tensor y = kernels::gather_tokens(ctx, transposed_in_memory(ctx, x), numbers(ctx, order));
      CHECK(values_of(ctx, y) == want);
      const Tensor inverse = kernels::inverse_order(ctx, numbers(ctx, order));
      CHECK(same_bits(ctx, kernels::gather_tokens(ctx, y, inverse), x));
    }
  }
  const Tensor x = random_tensor(ctx, Shape{2, 3, 4}, DType::f32, 1);
  const Tensor y = kernels::gather_tokens(ctx, x, numbers(ctx, {2, 2, 0, 1, 2}));
  CHECK(y.shape() == Shape{2, 5, 4});
  CHECK(same_bits(ctx, y.slice(1, 1, 2), x.slice(1, 2, 3)));
  CHECK(same_bits(ctx, y.slice(1, 2, 4), x.slice(1, 0, 2)));
  CHECK(kernels::gather_tokens(ctx, x, numbers(ctx, {})).shape() == Shape{2, 0, 4});
}

TEST_CASE("backward against finite differences; NaN stays in its row") {
  Context ctx(1);
  const Tensor table = random_tensor(ctx, Shape{4, 3}, DType::f64, 1),
               dy = random_tensor(ctx, Shape{5, 3}, DType::f64, 2);
  const Tensor ids = numbers(ctx, {3, 1, 1, 0, 3});
  CHECK(gradient_error(ctx, table, kernels::embedding_backward(ctx, dy, ids, 4), dy,
                       [&] { return kernels::embedding(ctx, table, ids); }) <= 1e-8);
  dy.data<double>()[4] = kNan;
  const Values g = values_of(ctx, kernels::embedding_backward(ctx, dy, ids, 4));
  for (std::size_t i = 0; i < g.size(); ++i) CHECK(std::isnan(g[i]) == (i == 4));
}

TEST_CASE("equal bits for any number of threads") {
  CHECK(same_bits_for_any_threads([](Context& ctx) {
    const Tensor dy = random_tensor(ctx, Shape{700, 150}, DType::f32, 1);
    const Tensor ids = numbers(ctx, draws(700, 9));
    const Tensor dtable = kernels::embedding_backward(ctx, dy, ids, 9);
    return std::vector<Tensor>{dtable, kernels::embedding(ctx, dtable, ids)};
  }));
}

TEST_CASE("errors name the op, the number and its place") {
  Context ctx(1);
  const Tensor table = random_tensor(ctx, Shape{4, 3}, DType::f32, 1),
               x = random_tensor(ctx, Shape{2, 4, 3}, DType::f32, 1);
  CHECK(contains(message_of<ValueError>([&] {
                   kernels::embedding(ctx, table, numbers(ctx, {0, 4}));
                 }),
                 {"[embedding]", "[0, 4)", "4 at place 1"}));
  CHECK(contains(message_of<ValueError>([&] { kernels::embedding(ctx, table, numbers(ctx, {-1})); }),
                 {"[embedding]", "-1 at place 0"}));
  CHECK(contains(message_of<ValueError>([&] {
                   kernels::embedding_backward(ctx, table, numbers(ctx, {0, 1, 2, 9}), 4);
                 }),
                 {"[embedding_backward]", "9 at place 3"}));
  CHECK(contains(message_of<DTypeError>([&] { kernels::embedding(ctx, table, table); }),
                 {"[embedding]", "ids", "i32", "f32"}));
  CHECK(contains(message_of<ShapeError>([&] { kernels::gather_tokens(ctx, table, numbers(ctx, {0})); }),
                 {"[gather_tokens]", "[b,N,C]", "[4,3]"}));
  CHECK(contains(message_of<ValueError>([&] {
                   kernels::gather_tokens(ctx, x, numbers(ctx, {0, 7}));
                 }),
                 {"[gather_tokens]", "7 at place 1"}));
  CHECK(contains(message_of<ValueError>([&] {
                   kernels::inverse_order(ctx, numbers(ctx, {0, 2, 0}));
                 }),
                 {"[inverse_order]", "0 at places 0 and 2"}));
}

TEST_CASE("the gradient of an empty table costs nothing, whatever its width") {
  Context ctx(1);
  const std::int64_t wide = std::int64_t{1} << 59;
  const Tensor ids = ctx.empty({0}, DType::i32);
  CHECK(kernels::embedding_backward(ctx, ctx.empty({0, wide}, DType::f32), ids, 0).shape() == Shape{0, wide});
}

TEST_SUITE_END();

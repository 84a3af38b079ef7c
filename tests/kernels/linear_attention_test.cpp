// Linear attention over blocks that were not picked, against sums over all pairs of tokens in f64.
#include "kernels/linear_attention.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>

#include "tests/support/kernels.h"
#include "tests/support/text.h"

using namespace llsa;
using namespace llsa::kernels;
using namespace llsa::test;

TEST_SUITE_BEGIN("kernels/linear_attention");

namespace {

struct Problem {
  std::int64_t n, block, e, f;
  int topk;
};

/// w ascending picks for every row, drawn so that some keys are picked by all rows and some by none.
Tensor random_picks(Context& ctx, std::int64_t heads, std::int64_t blocks, std::int64_t width,
                    std::uint64_t seed) {
  std::vector<std::int32_t> table;
  const Philox random{seed, 5};
  std::uint64_t at = 0;
  for (std::int64_t row = 0; row < heads * blocks; ++row) {
    std::vector<std::int32_t> all(static_cast<std::size_t>(blocks));
    for (std::size_t j = 0; j < all.size(); ++j) all[j] = static_cast<std::int32_t>(j);
    // Block 0 stays first; the last one is never reached unless all are picked.
    for (std::size_t j = all.size() - 1; j > 2; --j)
      std::swap(all[j - 1], all[1 + random.below(at++, static_cast<std::uint32_t>(j - 1))]);
    all.resize(static_cast<std::size_t>(width));
    std::sort(all.begin(), all.end());
    table.insert(table.end(), all.begin(), all.end());
  }
  return from_vector(ctx, table, {1, heads, blocks, width});
}

/// y of the definition.
Values dense(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& c, std::int64_t block,
             const Tensor& picks, bool transposed) {
  const Values x = values_of(ctx, a), y = values_of(ctx, b), z = values_of(ctx, c);
  const auto table = to_vector<std::int32_t>(ctx, picks);
  const std::int64_t heads = a.size(1), n = a.size(2), e = a.size(3), f = c.size(3), blocks = picks.size(2),
                     width = picks.size(3);
  Values out(static_cast<std::size_t>(heads * n * f));
  const auto picked = [&](std::int64_t h, std::int64_t i, std::int64_t j) {
    const auto row = table.begin() + (h * blocks + i) * width;
    return std::find(row, row + width, static_cast<std::int32_t>(j)) != row + width;
  };
  for (std::int64_t h = 0; h < heads; ++h)
    for (std::int64_t t = 0; t < n; ++t)
      for (std::int64_t s = 0; s < n; ++s) {
        if (transposed ? picked(h, s / block, t / block) : picked(h, t / block, s / block)) continue;
        double dot = 0;
        for (std::int64_t i = 0; i < e; ++i)
          dot += x[static_cast<std::size_t>((h * n + t) * e + i)] *
                 y[static_cast<std::size_t>((h * n + s) * e + i)];
        for (std::int64_t i = 0; i < f; ++i)
          out[static_cast<std::size_t>((h * n + t) * f + i)] +=
              dot * z[static_cast<std::size_t>((h * n + s) * f + i)];
      }
  return out;
}

double deviation_or_exact_zero(const Values& found, const Values& expected) {
  const bool zero = std::all_of(expected.begin(), expected.end(), [](double x) { return x == 0; });
  if (!zero) return deviation(found, expected);  // what is exactly 0 has no relative deviation
  return found == expected ? 0 : kInfinity;
}

}  // namespace

TEST_CASE("forward and gradients of ragged sizes, f32 and f64, on both sides of a quarter of the blocks") {
  Context ctx;
  for (const Problem& p :
       {Problem{1, 4, 3, 2, 1}, Problem{7, 4, 5, 6, 1}, Problem{37, 4, 8, 9, 2}, Problem{37, 4, 8, 9, 3},
        Problem{68, 16, 32, 33, 3}, Problem{68, 4, 33, 17, 16}, Problem{68, 4, 16, 17, 17},
        Problem{150, 3, 17, 64, 12}, Problem{150, 3, 17, 64, 13}}) {
    const std::int64_t blocks = (p.n + p.block - 1) / p.block;
    CAPTURE(p.n);
    CAPTURE(p.topk);
    const Tensor picks = random_picks(ctx, 3, blocks, p.topk, 3);
    for (const DType dtype : {DType::f32, DType::f64}) {
      const Tensor a = random_tensor(ctx, {1, 3, p.n, p.e}, dtype, 1),
                   b = random_tensor(ctx, {1, 3, p.n, p.e}, dtype, 2),
                   c = random_tensor(ctx, {1, 3, p.n, p.f}, dtype, 3),
                   dy = random_tensor(ctx, {1, 3, p.n, p.f}, dtype, 4);
      const double tolerance = dtype == DType::f32 ? 2e-6 : 1e-14;
      CHECK(deviation_or_exact_zero(values_of(ctx, linear_attention_rest(ctx, a, b, c, p.block, picks)),
                                    dense(ctx, a, b, c, p.block, picks, false)) <= tolerance);
      const auto grads = linear_attention_rest_backward(ctx, dy, a, b, c, p.block, picks);
      CHECK(deviation_or_exact_zero(values_of(ctx, grads.da), dense(ctx, dy, c, b, p.block, picks, false)) <=
            tolerance);
      CHECK(deviation_or_exact_zero(values_of(ctx, grads.db), dense(ctx, c, dy, a, p.block, picks, true)) <=
            tolerance);
      CHECK(deviation_or_exact_zero(values_of(ctx, grads.dc), dense(ctx, b, a, dy, p.block, picks, true)) <=
            tolerance);
    }
  }
}

TEST_CASE("what remains of a large total keeps its digits") {
  // One block of 17 is left over by every row, and its numbers are 10^6 times smaller than those of the others:
  // total minus picked in f32 would have no digit left.
  Context ctx;
  for (const std::int64_t blocks : {17, 65}) {
    const std::int64_t n = 4 * blocks;
    for (const int topk : {4, 5, 16}) {
      CAPTURE(blocks);
      CAPTURE(topk);
      const Tensor picks = random_picks(ctx, 1, blocks, topk, 9);
      Values small = values_of(ctx, random_tensor(ctx, {1, 1, n, 8}, DType::f64, 2));
      const auto table = to_vector<std::int32_t>(ctx, picks);
      std::vector<bool> picked_once(static_cast<std::size_t>(blocks));
      for (const std::int32_t j : table) picked_once[static_cast<std::size_t>(j)] = true;
      for (std::size_t i = 0; i < small.size(); ++i)
        if (!picked_once[i / 32]) small[i] *= 1e-6;
      const Tensor b = cast(ctx, from_vector(ctx, small, {1, 1, n, 8}), DType::f32);
      const Tensor a = random_tensor(ctx, {1, 1, n, 8}, DType::f32, 1),
                   c = random_tensor(ctx, {1, 1, n, 5}, DType::f32, 3);
      CHECK(deviation(values_of(ctx, linear_attention_rest(ctx, a, b, c, 4, picks)),
                      dense(ctx, a, b, c, 4, picks, false)) <= 1e-6);
    }
  }
}

TEST_CASE("strided inputs, and the same bits for 1, 2 and 3 threads") {
  Context one(1);
  const std::int64_t n = 333;
  const Tensor picks = random_picks(one, 2, 21, 4, 1);
  const Tensor a = random_tensor(one, {1, 2, n, 32}, DType::f32, 1),
               b = random_tensor(one, {1, 2, n, 32}, DType::f32, 2),
               c = random_tensor(one, {1, 2, n, 33}, DType::f32, 3);
  const Values expected = values_of(one, linear_attention_rest(one, a, b, c, 16, picks));
  CHECK(values_of(one, linear_attention_rest(one, with_gaps(one, a), transposed_in_memory(one, b),
                                             with_gaps(one, c), 16, picks)) == expected);
  for (const int threads : {2, 3}) {
    Context ctx(threads);
    CHECK(values_of(ctx, linear_attention_rest(ctx, a, b, c, 16, picks)) == expected);
  }
}

TEST_CASE("a row that picked all blocks is exactly 0, rows may have unused places at their ends") {
  Context ctx;
  const Tensor x = random_tensor(ctx, {1, 1, 9, 4}, DType::f32, 1);
  const Tensor picks =
      from_vector(ctx, std::vector<std::int32_t>{0, 1, 2, 1, -1, -1, -1, -1, -1}, {1, 1, 3, 3});
  const Values y = values_of(ctx, linear_attention_rest(ctx, x, x, x, 4, picks));
  for (std::size_t i = 0; i < 16; ++i) CHECK(y[i] == 0);
  CHECK(deviation(y, dense(ctx, x, x, x, 4, picks, false)) <= 1e-6);
}

TEST_CASE("a block larger than the sequence is one block of all tokens") {
  Context ctx(1);
  const Tensor a = random_tensor(ctx, {1, 1, 5, 2}, DType::f64, 1);
  const Tensor none = kernels::from_vector(ctx, std::vector<std::int32_t>{-1}, {1, 1, 1, 1});
  const std::int64_t most = std::numeric_limits<std::int64_t>::max();
  CHECK(same_bits(ctx, linear_attention_rest(ctx, a, a, a, most, none),
                  linear_attention_rest(ctx, a, a, a, 5, none)));
  CHECK(same_bits(ctx, linear_attention_rest_backward(ctx, a, a, a, a, most, none).dc,
                  linear_attention_rest_backward(ctx, a, a, a, a, 5, none).dc));
}

TEST_CASE("errors name the argument") {
  Context ctx;
  const Tensor x = random_tensor(ctx, {1, 1, 9, 4}, DType::f32, 1);
  const auto picks = [&](std::vector<std::int32_t> table) { return from_vector(ctx, table, {1, 1, 3, 2}); };
  const auto message = [&](auto call) { return message_of<Error>(call); };
  CHECK(message([&] {
          linear_attention_rest(ctx, x, x, x, 4, picks({0, 1, 1, 0, 0, 1}));
        }) == "[linear_attention_rest] picks have to ascend and to be below 3, got 0 after 1");
  CHECK(message([&] {
          linear_attention_rest(ctx, x, x, x, 4, picks({0, 3, 0, 1, 0, 1}));
        }) == "[linear_attention_rest] picks have to ascend and to be below 3, got 3 after 0");
  CHECK(
      message([&] {
        linear_attention_rest(ctx, x, x, x, 3, from_vector(ctx, std::vector<std::int32_t>{0}, {1, 1, 1, 1}));
      }) == "[linear_attention_rest] expected picks [1,1,3,w], a row for each block, got [1,1,1,1]");
  const Tensor narrow = cast(ctx, x, DType::bf16);
  CHECK_THROWS_AS(linear_attention_rest(ctx, narrow, narrow, narrow, 4, picks({0, 1, 0, 1, 0, 1})),
                  DTypeError);
  CHECK_THROWS_AS(linear_attention_rest(ctx, x, x.slice(3, 0, 2), x, 4, picks({0, 1, 0, 1, 0, 1})),
                  ShapeError);
  CHECK_THROWS_AS(linear_attention_rest(ctx, x, x, x, 0, picks({0, 1, 0, 1, 0, 1})), ValueError);
}

TEST_SUITE_END();

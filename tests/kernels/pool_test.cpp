// Block means against plain loops.
#include "kernels/pool.h"

#include "tests/support/kernels.h"

TEST_SUITE_BEGIN("kernels/pool");

using namespace llsa;
using namespace llsa::test;

namespace {

Values pooled(const Values& x, std::size_t rows, std::size_t n, std::size_t d, std::size_t block) {
  Values y;
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t first = 0; first < n; first += block) {
      const std::size_t last = std::min(n, first + block);
      for (std::size_t i = 0; i < d; ++i) {
        double sum = 0;
        for (std::size_t j = first; j < last; ++j) sum += x[(r * n + j) * d + i];
        y.push_back(sum / static_cast<double>(last - first));
      }
    }
  }
  return y;
}

}  // namespace

TEST_CASE("forward for every dtype, ragged lengths, strided input") {
  Context ctx(2);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    for (const std::int64_t n : {1, 31, 33, 257}) {
      for (const std::int64_t block : {1, 2, 3, 16, 300}) {
        CAPTURE(name_of(dtype));
        CAPTURE(n);
        CAPTURE(block);
        const Tensor x = random_tensor(ctx, Shape{2, 3, n, 5}, dtype, 1);
        const Values want =
            pooled(values_of(ctx, x), 6, static_cast<std::size_t>(n), 5, static_cast<std::size_t>(block));
        for (const Tensor& input : {x, with_gaps(ctx, x), transposed_in_memory(ctx, x)}) {
          const Tensor y = kernels::mean_pool(ctx, input, block);
          CHECK(y.shape() == Shape{2, 3, (n + block - 1) / block, 5});
          CHECK(deviation(ctx, y, want) <= tolerance(dtype));
        }
      }
    }
  }
  CHECK(kernels::mean_pool(ctx, ctx.empty(Shape{2, 0, 5}, DType::f32), 4).shape() == Shape{2, 0, 5});
}

TEST_CASE("backward: finite differences, other dtypes, NaN placement") {
  Context ctx(2);
  const Tensor x = random_tensor(ctx, Shape{2, 7, 3}, DType::f64, 1),
               dy = random_tensor(ctx, Shape{2, 3, 3}, DType::f64, 2);
  const Tensor dx = kernels::mean_pool_backward(ctx, dy, 7, 3);
  CHECK(gradient_error(ctx, x, dx, dy, [&] { return kernels::mean_pool(ctx, x, 3); }) <= 1e-8);
  for (const DType dtype : {DType::f32, DType::bf16})
    CHECK(deviation(ctx,
                    kernels::mean_pool_backward(ctx, kernels::cast(ctx, with_gaps(ctx, dy), dtype), 7, 3),
                    dx) <= tolerance(dtype));
  x.data<double>()[4] = kNan;  // sample 0, token 1, channel 1
  const Values y = values_of(ctx, kernels::mean_pool(ctx, x, 3));
  for (std::size_t i = 0; i < y.size(); ++i) CHECK(std::isnan(y[i]) == (i == 1));
}

TEST_CASE("equal bits for any number of threads") {
  CHECK(same_bits_for_any_threads([](Context& ctx) {
    const Tensor y = kernels::mean_pool(ctx, random_tensor(ctx, Shape{3, 1001, 33}, DType::f32, 1), 16);
    return std::vector<Tensor>{y, kernels::mean_pool_backward(ctx, y, 1001, 16)};
  }));
}

TEST_CASE("tokens without channels cost nothing, however many; a block may be larger than any sequence") {
  Context ctx(1);
  const std::int64_t many = std::int64_t{1} << 50;
  const Tensor y = kernels::mean_pool(ctx, ctx.empty({many, 1, 0}, DType::f32), 2);
  CHECK(y.shape() == Shape{many, 1, 0});
  CHECK(kernels::mean_pool_backward(ctx, y, 2, 2).shape() == Shape{many, 2, 0});
  const Tensor x = random_tensor(ctx, {3, 2}, DType::f64, 1);
  CHECK(deviation(ctx, kernels::mean_pool(ctx, x, std::numeric_limits<std::int64_t>::max()),
                  kernels::mean_pool(ctx, x, 3)) == 0);
}

TEST_CASE("errors name the op and both sides") {
  Context ctx(1);
  const Tensor x = random_tensor(ctx, Shape{5, 2}, DType::f32, 1);
  CHECK(contains(message_of<ValueError>([&] { kernels::mean_pool(ctx, x, 0); }),
                 {"[mean_pool]", "block", "0"}));
  CHECK(contains(message_of<ShapeError>([&] { kernels::mean_pool(ctx, x.select(0, 0), 2); }),
                 {"[mean_pool]", "[2]"}));
  CHECK(contains(message_of<DTypeError>([&] {
                   kernels::mean_pool(ctx, ctx.empty(Shape{2, 2}, DType::u8), 2);
                 }),
                 {"[mean_pool]", "u8"}));
}

TEST_SUITE_END();

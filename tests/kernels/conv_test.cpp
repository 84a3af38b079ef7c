// Convolution and its gradients against plain loops in f64.
#include "kernels/conv.h"

#include <doctest/doctest.h>

#include "tests/support/kernels.h"

using namespace llsa;
using namespace llsa::kernels;
using namespace llsa::test;

namespace {

using Pair = std::array<std::int64_t, 2>;

struct Case {
  std::int64_t batch, channels, height, width, outputs;
  Pair kernel, stride, padding;
};

const Case kCases[] = {
    {2, 3, 8, 7, 4, {3, 3}, {1, 1}, {1, 1}},   {1, 1, 1, 1, 1, {1, 1}, {1, 1}, {0, 0}},
    {2, 3, 16, 12, 5, {4, 4}, {4, 4}, {0, 0}}, {1, 2, 9, 31, 3, {5, 2}, {2, 3}, {2, 1}},
    {3, 2, 5, 4, 2, {2, 3}, {1, 2}, {3, 4}},   {0, 2, 5, 5, 3, {3, 3}, {1, 1}, {1, 1}},
    {1, 0, 5, 5, 3, {3, 3}, {1, 1}, {1, 1}},   {1, 3, 257, 33, 10, {3, 3}, {2, 2}, {1, 1}},
    {1, 2, 3, 0, 2, {1, 2}, {1, 1}, {1, 2}},
};

struct Reference {
  Tensor y, dx, dw, db;
};

/// All of it by seven loops; dy has the shape of y.
Reference naive(Context& ctx, const Case& c, const Tensor& x, const Tensor& w, const Tensor& bias,
                std::uint64_t stream) {
  const std::int64_t oh = (c.height + 2 * c.padding[0] - c.kernel[0]) / c.stride[0] + 1;
  const std::int64_t ow = (c.width + 2 * c.padding[1] - c.kernel[1]) / c.stride[1] + 1;
  const Shape shape{c.batch, c.outputs, oh, ow};
  const auto xs = to_vector<double>(ctx, x), ws = to_vector<double>(ctx, w),
             bs = to_vector<double>(ctx, bias);
  const auto dy = to_vector<double>(ctx, random_tensor(ctx, shape, x.dtype(), stream));
  std::vector<double> y(static_cast<std::size_t>(shape.numel())), dx(xs.size()), dw(ws.size()), db(bs.size());
  for (std::size_t at = 0; at < y.size(); ++at) {
    const auto index = static_cast<std::int64_t>(at);
    const std::int64_t q = index % ow, p = index / ow % oh, o = index / ow / oh % c.outputs,
                       b = index / ow / oh / c.outputs;
    y[at] = bs[static_cast<std::size_t>(o)];
    db[static_cast<std::size_t>(o)] += dy[at];
    for (std::int64_t ch = 0; ch < c.channels; ++ch)
      for (std::int64_t i = 0; i < c.kernel[0]; ++i)
        for (std::int64_t j = 0; j < c.kernel[1]; ++j) {
          const std::int64_t row = p * c.stride[0] + i - c.padding[0],
                             col = q * c.stride[1] + j - c.padding[1];
          if (row < 0 || row >= c.height || col < 0 || col >= c.width) continue;
          const auto from =
              static_cast<std::size_t>(((b * c.channels + ch) * c.height + row) * c.width + col);
          const auto kernel =
              static_cast<std::size_t>(((o * c.channels + ch) * c.kernel[0] + i) * c.kernel[1] + j);
          y[at] += ws[kernel] * xs[from];
          dx[from] += ws[kernel] * dy[at];
          dw[kernel] += xs[from] * dy[at];
        }
  }
  return {from_vector(ctx, y, shape), from_vector(ctx, dx, x.shape()), from_vector(ctx, dw, w.shape()),
          from_vector(ctx, db, bias.shape())};
}

}  // namespace

TEST_SUITE_BEGIN("kernels/conv");

TEST_CASE("convolution and its gradients equal plain loops") {
  Context ctx(2);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    const double limit = dtype == DType::f64 ? 1e-13 : dtype == DType::f32 ? 4e-6 : 1e-2;
    for (const Case& c : kCases) {
      CAPTURE(name_of(dtype));
      CAPTURE(c.kernel[0]);
      CAPTURE(c.stride[0]);
      CAPTURE(c.batch);
      const Tensor x = random_tensor(ctx, Shape{c.batch, c.channels, c.height, c.width}, dtype, 1);
      const Tensor w = random_tensor(ctx, Shape{c.outputs, c.channels, c.kernel[0], c.kernel[1]}, dtype, 2);
      const Tensor bias = random_tensor(ctx, Shape{c.outputs}, dtype, 3);
      const Reference expected = naive(ctx, c, x, w, bias, 4);
      CHECK(relative_error(ctx, conv2d(ctx, transposed_in_memory(ctx, x), w, bias, c.stride, c.padding),
                           expected.y) <= limit);
      const Tensor dy = random_tensor(ctx, expected.y.shape(), dtype, 4);
      const ConvGrads grads =
          conv2d_backward(ctx, with_gaps(ctx, dy), x, transposed_in_memory(ctx, w), c.stride, c.padding);
      CHECK(relative_error(ctx, grads.dx, expected.dx) <= limit);
      CHECK(relative_error(ctx, grads.dw, expected.dw) <= limit);
      CHECK(relative_error(ctx, grads.db, expected.db) <= limit);
      const ConvGrads some = conv2d_backward(ctx, dy, x, w, c.stride, c.padding, false, true, false);
      CHECK(!some.dx.defined());
      CHECK(!some.db.defined());
      CHECK(same_bits(ctx, some.dw, grads.dw));
    }
  }
}

TEST_CASE("any number of threads gives the same bits, also over several groups of positions") {
  CHECK(same_bits_for_any_threads([](Context& ctx) {
    const Tensor x = random_tensor(ctx, Shape{3, 16, 100, 90}, DType::f32, 1),
                 w = random_tensor(ctx, Shape{8, 16, 5, 5}, DType::f32, 2);
    const Tensor dy = random_tensor(ctx, Shape{3, 8, 100, 90}, DType::f32, 3);
    const ConvGrads grads = conv2d_backward(ctx, dy, x, w, {1, 1}, {2, 2});
    return std::vector<Tensor>{conv2d(ctx, x, w, {}, {1, 1}, {2, 2}), grads.dx, grads.dw, grads.db};
  }));
}

TEST_CASE("arguments that do not fit are named") {
  Context ctx(1);
  const Tensor x = ctx.zeros(Shape{1, 2, 4, 4}, DType::f32), w = ctx.zeros(Shape{3, 2, 5, 3}, DType::f32);
  CHECK_THROWS_WITH_AS(conv2d(ctx, x, w, {}),
                       "[conv2d] kernel [3,2,5,3] does not fit into x [1,2,4,4] with padding 0 and 0",
                       ShapeError);
  CHECK_NOTHROW(conv2d(ctx, x, w, {}, {1, 1}, {1, 0}));
  CHECK_THROWS_AS(conv2d(ctx, x, w, {}, {0, 1}, {1, 0}), ValueError);
  CHECK_THROWS_AS(conv2d(ctx, x, w, {}, {1, 1}, {1, -1}), ValueError);
  CHECK_THROWS_AS(conv2d(ctx, x, w, {}, {1, std::int64_t{1} << 62}, {1, 1}), ValueError);
  CHECK_THROWS_AS(conv2d(ctx, x, ctx.zeros(Shape{3, 1, 3, 3}, DType::f32), {}), ShapeError);
  CHECK_THROWS_AS(conv2d(ctx, x, ctx.zeros(Shape{3, 2, 0, 3}, DType::f32), {}), ShapeError);
  CHECK_THROWS_AS(conv2d(ctx, x, w, ctx.zeros(Shape{2}, DType::f32), {1, 1}, {1, 1}), ShapeError);
  CHECK_THROWS_AS(conv2d(ctx, x, cast(ctx, w, DType::f64), {}, {1, 1}, {1, 1}), DTypeError);
}

TEST_CASE("without output elements the gradients are zeros, whatever the other extents") {
  Context ctx(1);
  const std::int64_t many = std::int64_t{1} << 59;
  const Tensor x = ctx.empty({0, many, 1, 1}, DType::f32), w = ctx.empty({0, many, 1, 1}, DType::f32);
  const Pair stride{1, 1}, padding{0, std::int64_t{1} << 31};
  const Tensor y = conv2d(ctx, x, w, {}, stride, padding);
  CHECK(y.shape() == Shape{0, 0, 1, (std::int64_t{1} << 32) + 1});
  const ConvGrads none = conv2d_backward(ctx, y, x, w, stride, padding);
  CHECK(none.dx.shape() == x.shape());
  CHECK(none.dw.shape() == w.shape());
  CHECK(none.db.shape() == Shape{0});

  const Tensor image = random_tensor(ctx, {1, 1, 2, 2}, DType::f32, 1),
               kernel = ctx.empty({0, 1, 1, 1}, DType::f32);
  const ConvGrads zeros =
      conv2d_backward(ctx, ctx.empty({1, 0, 2, 2}, DType::f32), image, kernel, {1, 1}, {0, 0});
  CHECK(values_of(ctx, zeros.dx) == Values(4, 0.0));
}

TEST_SUITE_END();

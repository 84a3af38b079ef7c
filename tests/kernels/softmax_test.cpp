// Softmax and log-sum-exp against naive f64 sums.
#include "kernels/softmax.h"

#include "tests/support/kernels.h"

TEST_SUITE_BEGIN("kernels/softmax");

using namespace llsa;
using namespace llsa::test;

namespace {

struct Reference {
  Values y, l;
};

/// Row by row, without subtracting the maximum: the values here are small.
Reference reference(const Values& x, std::size_t n) {
  Reference out;
  for (std::size_t begin = 0; begin < x.size(); begin += n) {
    double sum = 0;
    for (std::size_t i = begin; i < begin + n; ++i) sum += std::exp(x[i]);
    for (std::size_t i = begin; i < begin + n; ++i) out.y.push_back(std::exp(x[i]) / sum);
    out.l.push_back(std::log(sum));
  }
  return out;
}

}  // namespace

TEST_CASE("forward for every dtype, odd lengths, strided input") {
  Context ctx(2);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    for (const std::int64_t n : {1, 31, 33, 257}) {
      CAPTURE(name_of(dtype));
      CAPTURE(n);
      const Tensor x = random_tensor(ctx, Shape{3, 7, n}, dtype, 1);
      const Reference want = reference(values_of(ctx, x), static_cast<std::size_t>(n));
      for (const Tensor& input : {x, with_gaps(ctx, x), transposed_in_memory(ctx, x)}) {
        CHECK(deviation(ctx, kernels::softmax(ctx, input), want.y) <= tolerance(dtype));
        const Tensor l = kernels::log_sum_exp(ctx, input);
        CHECK(l.shape() == Shape{3, 7});
        CHECK(deviation(ctx, l, want.l) <= tolerance(dtype));
      }
    }
  }
}

TEST_CASE("backward against finite differences") {
  Context ctx(1);
  const Tensor x = random_tensor(ctx, Shape{3, 7}, DType::f64, 2);
  const Tensor dy = random_tensor(ctx, Shape{3, 7}, DType::f64, 3);
  const Tensor dl = random_tensor(ctx, Shape{3}, DType::f64, 4);
  CHECK(gradient_error(ctx, x, kernels::softmax_backward(ctx, dy, kernels::softmax(ctx, x)), dy,
                       [&] { return kernels::softmax(ctx, x); }) <= 1e-8);
  CHECK(gradient_error(ctx, x, kernels::log_sum_exp_backward(ctx, dl, x, kernels::log_sum_exp(ctx, x)), dl,
                       [&] { return kernels::log_sum_exp(ctx, x); }) <= 1e-8);
}

TEST_CASE("backward in lower precision agrees with f64") {
  Context ctx(2);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const std::int64_t n : {1, 33, 257}) {
      const Tensor x = random_tensor(ctx, Shape{9, n}, dtype, 5),
                   dy = random_tensor(ctx, Shape{9, n}, dtype, 6);
      const Tensor dl = random_tensor(ctx, Shape{9}, dtype, 7);
      const Tensor x64 = kernels::cast(ctx, x, DType::f64), dy64 = kernels::cast(ctx, dy, DType::f64);
      const Tensor dl64 = kernels::cast(ctx, dl, DType::f64);
      const Tensor y = kernels::softmax(ctx, x);
      const Tensor dx = kernels::softmax_backward(ctx, with_gaps(ctx, dy), y);
      const Values want =
          values_of(ctx, kernels::softmax_backward(ctx, dy64, kernels::cast(ctx, y, DType::f64)));
      CHECK(deviation(values_of(ctx, dx), want) <= (n == 1 ? kInfinity : tolerance(dtype)));
      CHECK(deviation(ctx, kernels::log_sum_exp_backward(ctx, dl, x, kernels::log_sum_exp(ctx, x)),
                      values_of(ctx, kernels::log_sum_exp_backward(ctx, dl64, x64,
                                                                   kernels::log_sum_exp(ctx, x64)))) <=
            tolerance(dtype));
    }
  }
}

TEST_CASE("large values do not overflow; infinities and NaN stay in their row") {
  Context ctx(1);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    const auto rows = [&](const Values& v, std::int64_t n) {
      return kernels::cast(
          ctx, kernels::from_vector(ctx, v, Shape{static_cast<std::int64_t>(v.size()) / n, n}), dtype);
    };
    const Tensor x =
        rows({1000, 1000, -1000, kNan, 1, 2, -kInfinity, 0, 0, -kInfinity, -kInfinity, -kInfinity}, 3);
    const Values y = values_of(ctx, kernels::softmax(ctx, x));
    CHECK(y[0] == 0.5);
    CHECK(y[2] == 0);
    for (const std::size_t i : {3u, 4u, 5u, 9u, 10u, 11u}) CHECK(std::isnan(y[i]));
    CHECK(y[6] == 0);
    CHECK(y[7] == 0.5);
    const Values l = values_of(ctx, kernels::log_sum_exp(ctx, x));
    CHECK(std::abs(l[0] - 1000.69) <= 4);
    CHECK(std::isnan(l[1]));
    CHECK(std::abs(l[2] - std::log(2.0)) <= 1e-2);
    CHECK(l[3] == -kInfinity);
    CHECK(values_of(ctx, kernels::log_sum_exp(ctx, rows({kInfinity, 0, 1}, 3)))[0] == kInfinity);
    const Tensor dx = kernels::log_sum_exp_backward(
        ctx, kernels::cast(ctx, kernels::from_vector(ctx, Values(4, 1.0), Shape{4}), dtype), x,
        kernels::log_sum_exp(ctx, x));
    CHECK(values_of(ctx, dx)[9] == 0);
  }
}

TEST_CASE("empty inputs") {
  Context ctx(1);
  CHECK(kernels::softmax(ctx, ctx.empty(Shape{0, 5}, DType::f32)).numel() == 0);
  CHECK(kernels::softmax(ctx, ctx.empty(Shape{5, 0}, DType::f32)).numel() == 0);
  CHECK(values_of(ctx, kernels::log_sum_exp(ctx, ctx.empty(Shape{2, 0}, DType::f32))) ==
        Values(2, -kInfinity));
}

TEST_CASE("equal bits for any number of threads") {
  CHECK(same_bits_for_any_threads([](Context& ctx) {
    const Tensor x = random_tensor(ctx, Shape{301, 257}, DType::f32, 8);
    const Tensor y = kernels::softmax(ctx, x);
    return std::vector<Tensor>{y, kernels::softmax_backward(ctx, x, y), kernels::log_sum_exp(ctx, x)};
  }));
}

TEST_CASE("errors name the op and both sides") {
  Context ctx(1);
  const Tensor x = random_tensor(ctx, Shape{2, 3}, DType::f32, 1);
  CHECK(contains(message_of<DTypeError>([&] { kernels::softmax(ctx, ctx.empty(Shape{2}, DType::i32)); }),
                 {"[softmax]", "i32"}));
  CHECK(contains(message_of<ShapeError>([&] { kernels::softmax(ctx, ctx.empty(Shape{}, DType::f32)); }),
                 {"[softmax]", "[]"}));
  CHECK(
      contains(message_of<ValueError>([&] { kernels::softmax(ctx, Tensor()); }), {"[softmax]", "undefined"}));
}

TEST_SUITE_END();

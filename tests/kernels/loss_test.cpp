// Losses against plain f64 sums.
#include "kernels/loss.h"

#include "kernels/elementwise.h"
#include "tests/support/kernels.h"

TEST_SUITE_BEGIN("kernels/loss");

using namespace llsa;
using namespace llsa::test;

namespace {

Tensor scalar(Context& ctx, double value, DType dtype) {
  return kernels::cast(ctx, kernels::from_vector(ctx, Values{value}, Shape{}),
                       dtype == DType::f64 ? DType::f64 : DType::f32);
}

Tensor labels_for(Context& ctx, std::int64_t n, std::uint32_t classes) {
  std::vector<std::int32_t> out;
  for (std::int64_t i = 0; i < n; ++i)
    out.push_back(static_cast<std::int32_t>(Philox{3, 3}.below(static_cast<std::uint64_t>(i), classes)));
  return kernels::from_vector(ctx, out, Shape{n});
}

}  // namespace

TEST_CASE("mse forward and backward for every dtype, odd sizes, strided input") {
  Context ctx(2);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    for (const std::int64_t n : {1, 31, 33, 257, 9001}) {
      CAPTURE(name_of(dtype));
      CAPTURE(n);
      const Tensor a = random_tensor(ctx, Shape{3, n}, dtype, 1),
                   b = random_tensor(ctx, Shape{3, n}, dtype, 2);
      const Values x = values_of(ctx, a), y = values_of(ctx, b);
      Values da;
      double sum = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        sum += (x[i] - y[i]) * (x[i] - y[i]);
        da.push_back(0.7 * 2 * (x[i] - y[i]) / static_cast<double>(x.size()));
      }
      const Tensor loss = kernels::mse(ctx, with_gaps(ctx, a), transposed_in_memory(ctx, b));
      CHECK(loss.shape() == Shape{});
      CHECK(loss.dtype() == (dtype == DType::f64 ? DType::f64 : DType::f32));
      CHECK(deviation(ctx, loss, Values{sum / static_cast<double>(x.size())}) <=
            (dtype == DType::f64 ? 1e-13 : 1e-6));
      CHECK(deviation(ctx, kernels::mse_backward(ctx, scalar(ctx, 0.7, dtype), a, with_gaps(ctx, b)), da) <=
            tolerance(dtype));
    }
  }
}

TEST_CASE("cross_entropy forward and backward for every dtype") {
  Context ctx(2);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    for (const std::int64_t c : {1, 2, 31, 257}) {
      CAPTURE(name_of(dtype));
      CAPTURE(c);
      const std::int64_t n = 33;
      const Tensor logits = random_tensor(ctx, Shape{n, c}, dtype, 1),
                   labels = labels_for(ctx, n, static_cast<std::uint32_t>(c));
      const Values x = values_of(ctx, logits), l = values_of(ctx, labels);
      double loss = 0;
      Values dx(x.size());
      for (std::size_t r = 0; r < static_cast<std::size_t>(n); ++r) {
        const auto width = static_cast<std::size_t>(c);
        double sum = 0;
        for (std::size_t i = 0; i < width; ++i) sum += std::exp(x[r * width + i]);
        for (std::size_t i = 0; i < width; ++i)
          dx[r * width + i] = 0.7 *
                              (std::exp(x[r * width + i]) / sum - (static_cast<double>(i) == l[r] ? 1 : 0)) /
                              static_cast<double>(n);
        loss += (std::log(sum) - x[r * width + static_cast<std::size_t>(l[r])]) / static_cast<double>(n);
      }
      const Tensor got = kernels::cross_entropy(ctx, with_gaps(ctx, logits), labels);
      CHECK(got.shape() == Shape{});
      CHECK(std::abs(values_of(ctx, got)[0] - loss) <= 1e-5);
      if (c == 1) continue;
      CHECK(deviation(ctx,
                      kernels::cross_entropy_backward(ctx, scalar(ctx, 0.7, dtype),
                                                      transposed_in_memory(ctx, logits), labels),
                      dx) <= tolerance(dtype));
    }
  }
}

TEST_CASE("backward against finite differences") {
  Context ctx(1);
  const Tensor a = random_tensor(ctx, Shape{3, 4}, DType::f64, 1),
               b = random_tensor(ctx, Shape{3, 4}, DType::f64, 2);
  const Tensor dloss = scalar(ctx, -1.3, DType::f64), labels = labels_for(ctx, 3, 4);
  CHECK(gradient_error(ctx, a, kernels::mse_backward(ctx, dloss, a, b), dloss,
                       [&] { return kernels::mse(ctx, a, b); }) <= 1e-8);
  CHECK(gradient_error(ctx, a, kernels::cross_entropy_backward(ctx, dloss, a, labels), dloss,
                       [&] { return kernels::cross_entropy(ctx, a, labels); }) <= 1e-8);
}

TEST_CASE("large logits do not overflow; NaN comes through; nothing to average is NaN") {
  Context ctx(1);
  const Tensor logits = kernels::from_vector(ctx, std::vector<float>{5000, 0, -5000}, Shape{1, 3});
  const Tensor label = kernels::from_vector(ctx, std::vector<std::int32_t>{1}, Shape{1});
  CHECK(values_of(ctx, kernels::cross_entropy(ctx, logits, label))[0] == 5000);
  logits.data<float>()[2] = std::numeric_limits<float>::quiet_NaN();
  CHECK(std::isnan(values_of(ctx, kernels::cross_entropy(ctx, logits, label))[0]));
  CHECK(std::isnan(values_of(ctx, kernels::mse(ctx, logits, logits))[0]));
  const Tensor none = ctx.empty(Shape{0, 3}, DType::f32);
  CHECK(std::isnan(values_of(ctx, kernels::mse(ctx, none, none))[0]));
}

TEST_CASE("equal bits for any number of threads") {
  CHECK(same_bits_for_any_threads([](Context& ctx) {
    const Tensor a = random_tensor(ctx, Shape{1001, 65}, DType::f32, 1),
                 b = random_tensor(ctx, Shape{1001, 65}, DType::f32, 2);
    const Tensor labels = labels_for(ctx, 1001, 65), loss = kernels::mse(ctx, a, b);
    return std::vector<Tensor>{loss, kernels::mse_backward(ctx, loss, a, b),
                               kernels::cross_entropy(ctx, a, labels),
                               kernels::cross_entropy_backward(ctx, loss, a, labels)};
  }));
}

TEST_CASE("errors name the op and both sides") {
  Context ctx(1);
  const Tensor a = random_tensor(ctx, Shape{3, 4}, DType::f32, 1), labels = labels_for(ctx, 3, 4);
  CHECK(contains(message_of<ShapeError>([&] { kernels::mse(ctx, a, a.slice(1, 0, 2)); }),
                 {"[mse]", "[3,4]", "[3,2]"}));
  CHECK(contains(message_of<DTypeError>([&] { kernels::mse(ctx, a, kernels::cast(ctx, a, DType::f64)); }),
                 {"[mse]", "f32", "f64"}));
  CHECK(contains(message_of<ShapeError>([&] { kernels::cross_entropy(ctx, a, labels_for(ctx, 2, 4)); }),
                 {"[cross_entropy]", "labels", "[3]", "[2]"}));
  labels.data<std::int32_t>()[1] = 4;
  CHECK(contains(message_of<ValueError>([&] { kernels::cross_entropy(ctx, a, labels); }),
                 {"[cross_entropy]", "[0, 4)", "4 at place 1"}));
}

TEST_SUITE_END();

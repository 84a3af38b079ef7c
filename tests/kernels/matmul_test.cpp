// Matrix products against plain loops in f64.
#include "kernels/matmul.h"

#include <doctest/doctest.h>

#include <signal.h>
#include <sys/time.h>

#include "kernels/check.h"
#include "kernels/elementwise.h"
#include "kernels/reduce.h"
#include "tests/support/child_process.h"
#include "tests/support/kernels.h"

using namespace llsa;
using namespace llsa::kernels;
using namespace llsa::test;

namespace {

double rounding_limit(DType dtype) { return dtype == DType::f64 ? 1e-13 : dtype == DType::f32 ? 4e-6 : 8e-3; }

/// a[M,K] b[K,N]
Tensor naive(Context& ctx, const Tensor& a, const Tensor& b) {
  const auto x = to_vector<double>(ctx, a), y = to_vector<double>(ctx, b);
  const std::int64_t m = a.size(0), k = a.size(1), n = b.size(1);
  std::vector<double> c(static_cast<std::size_t>(m * n), 0.0);
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t p = 0; p < k; ++p)
      for (std::int64_t j = 0; j < n; ++j)
        c[static_cast<std::size_t>(i * n + j)] +=
            x[static_cast<std::size_t>(i * k + p)] * y[static_cast<std::size_t>(p * n + j)];
  return from_vector(ctx, c, Shape{m, n});
}

struct Size {
  std::int64_t m, n, k;
};

void check_close(Context& ctx, const Tensor& got, const Tensor& expected, double limit) {
  CHECK(got.is_contiguous());
  const double error = relative_error(ctx, got, expected);
  CHECK(error <= limit);
}

}  // namespace

TEST_SUITE_BEGIN("kernels/matmul");

TEST_CASE("products of all sizes and layouts equal plain loops") {
  Context ctx(2);
  const std::int64_t sizes[] = {0, 1, 31, 33, 257};
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    for (const std::int64_t m : sizes) {
      for (const std::int64_t n : sizes) {
        for (const std::int64_t k : sizes) {
          CAPTURE(name_of(dtype));
          CAPTURE(m);
          CAPTURE(n);
          CAPTURE(k);
          const Tensor a = random_tensor(ctx, Shape{m, k}, dtype, 1),
                       b = random_tensor(ctx, Shape{k, n}, dtype, 2);
          const Tensor expected = naive(ctx, a, b);
          const double limit = rounding_limit(dtype);
          check_close(ctx, matmul(ctx, a, b), expected, limit);
          check_close(ctx, matmul(ctx, transposed_in_memory(ctx, a), transposed_in_memory(ctx, b)), expected,
                      limit);
          if (m * n * k > 0 && m != 257) {
            check_close(ctx, matmul(ctx, a.transpose(0, 1), b.transpose(0, 1), true, true), expected, limit);
            check_close(ctx, matmul(ctx, with_gaps(ctx, a), with_gaps(ctx, b)), expected, limit);
          }
        }
      }
    }
  }
}

TEST_CASE("leading axes broadcast") {
  Context ctx(2);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    const Tensor a = random_tensor(ctx, Shape{2, 1, 5, 7}, dtype, 1),
                 b = random_tensor(ctx, Shape{3, 7, 4}, dtype, 2);
    const Tensor c = matmul(ctx, a, b);
    const Tensor from_view =
        matmul(ctx, random_tensor(ctx, Shape{5, 2, 1, 7}, dtype, 3).permute({1, 2, 0, 3}), b);
    REQUIRE(c.shape() == Shape{2, 3, 5, 4});
    REQUIRE(from_view.shape() == Shape{2, 3, 5, 4});
    for (int i = 0; i < 2; ++i) {
      for (int j = 0; j < 3; ++j) {
        check_close(ctx, clone(ctx, c.select(0, i).select(0, j)),
                    naive(ctx, a.select(0, i).select(0, 0), b.select(0, j)), rounding_limit(dtype));
      }
    }
  }
  CHECK(matmul(ctx, ctx.zeros(Shape{0, 3, 4}, DType::f32), ctx.zeros(Shape{4, 5}, DType::f32)).shape() ==
        Shape{0, 3, 5});
}

TEST_CASE("operands whose rows overlap or repeat are taken") {
  Context ctx(1);
  const Tensor line = random_tensor(ctx, Shape{1, 9}, DType::f32, 1);
  const Tensor repeated = line.expand(Shape{6, 9});
  const Tensor b = random_tensor(ctx, Shape{9, 5}, DType::f32, 2);
  check_close(ctx, matmul(ctx, repeated, b), naive(ctx, repeated, b), 4e-6);
  const Tensor column = b.slice(1, 2, 3);  // [9,1], stride 5
  check_close(ctx, matmul(ctx, line, column), naive(ctx, line, column), 4e-6);
  check_close(ctx, matmul(ctx, column, line), naive(ctx, column, line), 4e-6);
  check_close(ctx, matmul(ctx, column.transpose(0, 1), b), naive(ctx, column.transpose(0, 1), b), 4e-6);
}

TEST_CASE("NaN and infinity reach exactly their rows and columns") {
  Context ctx(1);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    const Tensor a = random_tensor(ctx, Shape{33, 17}, dtype, 1),
                 b = random_tensor(ctx, Shape{17, 31}, dtype, 2);
    fill(ctx, a.slice(0, 5, 6).slice(1, 3, 4), std::nan(""));
    fill(ctx, b.slice(0, 2, 3).slice(1, 30, 31), std::numeric_limits<double>::infinity());
    const auto c = to_vector<double>(ctx, matmul(ctx, a, b));
    for (std::size_t i = 0; i < 33; ++i)
      for (std::size_t j = 0; j < 31; ++j) {
        CHECK(std::isnan(c[i * 31 + j]) == (i == 5));
        CHECK(std::isfinite(c[i * 31 + j]) == (i != 5 && j != 30));
      }
  }
}

TEST_CASE("linear is the product with the transposed weights plus bias") {
  Context ctx(2);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    for (const std::int64_t m : {0, 1, 31, 300, 1100}) {
      CAPTURE(name_of(dtype));
      CAPTURE(m);
      const Tensor x = random_tensor(ctx, Shape{1, m, 33}, dtype, 1),
                   w = random_tensor(ctx, Shape{70, 33}, dtype, 2);
      const Tensor bias = random_tensor(ctx, Shape{70}, dtype, 3);
      const Tensor flat = x.reshape({m, 33});
      const Tensor expected = naive(ctx, flat, w.transpose(0, 1)).reshape({1, m, 70});
      check_close(ctx, linear(ctx, x, w, {}), expected, rounding_limit(dtype));
      check_close(ctx, linear(ctx, x, transposed_in_memory(ctx, w), with_gaps(ctx, bias)),
                  add(ctx, expected, cast(ctx, bias, DType::f64)), rounding_limit(dtype));
    }
  }
}

TEST_CASE("backward of linear is its definition in products and sums") {
  Context ctx(2);
  struct Case {
    std::int64_t m, n, k;
  };
  // Few rows; several groups of panels; a ragged last panel; weights that are split by rows; nothing at all.
  for (const auto& c : {Case{3, 33, 17},
                        {1500, 40, 24},
                        {9000, 24, 16},
                        {1100, 1, 1},
                        {70, 300, 260},
                        {0, 5, 4},
                        {5, 0, 4},
                        {5, 4, 0}}) {
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
      CAPTURE(name_of(dtype));
      CAPTURE(c.m);
      CAPTURE(c.n);
      const Tensor x = random_tensor(ctx, Shape{c.m, c.k}, dtype, 1),
                   w = random_tensor(ctx, Shape{c.n, c.k}, dtype, 2);
      const Tensor dy = random_tensor(ctx, Shape{c.m, c.n}, dtype, 3);
      const LinearGrads grads = linear_backward(ctx, dy, x, w, true, true, true);
      check_close(ctx, grads.dx, naive(ctx, dy, w), rounding_limit(dtype));
      check_close(ctx, grads.dw, naive(ctx, dy.transpose(0, 1), x), rounding_limit(dtype));
      check_close(ctx, grads.db, sum(ctx, cast(ctx, dy, DType::f64), {0}), rounding_limit(dtype));
      const LinearGrads strided = linear_backward(ctx, with_gaps(ctx, dy), transposed_in_memory(ctx, x),
                                                  transposed_in_memory(ctx, w), false, true, false);
      CHECK(!strided.dx.defined());
      CHECK(!strided.db.defined());
      CHECK(same_bits(ctx, strided.dw, grads.dw));
    }
  }
}

TEST_CASE("linear_gelu is linear, then gelu_tanh, and the gradient goes back through both") {
  Context ctx(2);
  for (const std::int64_t m : {0, 5, 300, 1500}) {
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
      CAPTURE(name_of(dtype));
      CAPTURE(m);
      const Tensor x = random_tensor(ctx, Shape{m, 24}, dtype, 1),
                   w = random_tensor(ctx, Shape{40, 24}, dtype, 2, 0.3);
      const Tensor bias = random_tensor(ctx, Shape{40}, dtype, 3);
      const LinearGelu fused = linear_gelu(ctx, x, w, bias);
      const Tensor pre = linear(ctx, x, w, bias);
      check_close(ctx, fused.pre, pre, rounding_limit(dtype));
      check_close(ctx, fused.y, gelu_tanh(ctx, pre), rounding_limit(dtype));
      const Tensor down = random_tensor(ctx, Shape{9, 40}, dtype, 4, 0.3),
                   dy = random_tensor(ctx, Shape{m, 9}, dtype, 5);
      const LinearGrads grads = linear_backward(ctx, dy, fused.y, down, true, true, true, fused.pre);
      const LinearGrads expected = linear_backward(ctx, dy, fused.y, down, true, true, true);
      check_close(ctx, grads.dx, unary_backward(ctx, UnaryOp::gelu_tanh, expected.dx, fused.pre),
                  rounding_limit(dtype));
      CHECK(same_bits(ctx, grads.dw, expected.dw));
      CHECK(same_bits(ctx, grads.db, expected.db));
      const LinearGrads alone = linear_backward(ctx, dy, fused.y, down, true, false, false, fused.pre);
      check_close(ctx, alone.dx, grads.dx, rounding_limit(dtype));
    }
  }
}

TEST_CASE("gradients of weights are written where the caller wants them, in the dtype of sums") {
  Context ctx(2);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16})
    for (const std::int64_t m : {0, 70, 2048}) {
      CAPTURE(name_of(dtype));
      CAPTURE(m);
      const Tensor x = random_tensor(ctx, Shape{m, 24}, dtype, 1),
                   w = random_tensor(ctx, Shape{9, 24}, dtype, 2),
                   dy = random_tensor(ctx, Shape{m, 9}, dtype, 3);
      const Tensor room = ctx.empty(Shape{9 * 24 + 9}, accumulator_of(dtype));
      fill(ctx, room, kNan);
      const Tensor dw = room.slice(0, 0, 9 * 24).reshape({9, 24}), db = room.slice(0, 9 * 24, 9 * 25);
      CHECK(!linear_backward(ctx, dy, x, w, {}, false, dw, db).defined());
      const LinearGrads own = linear_backward(ctx, dy, x, w, false, true, true);
      CHECK(same_bits(ctx, dw, own.dw));
      CHECK(same_bits(ctx, db, own.db));
    }
}

TEST_CASE("any number of threads gives the same bits") {
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    CAPTURE(name_of(dtype));
    for (const std::int64_t m : {100, 1300, 2048, 9001}) {
      if (dtype != DType::f32 && m > 2048) continue;
      CHECK(same_bits_for_any_threads([&](Context& ctx) {
        const Tensor x = random_tensor(ctx, Shape{m, 64}, dtype, 1),
                     w = random_tensor(ctx, Shape{192, 64}, dtype, 2);
        const Tensor bias = random_tensor(ctx, Shape{192}, dtype, 3),
                     dy = random_tensor(ctx, Shape{m, 192}, dtype, 4);
        const LinearGelu y = linear_gelu(ctx, x, w, bias);
        const LinearGrads grads = linear_backward(ctx, x, y.y, w.transpose(0, 1), true, true, true, y.pre);
        const LinearGrads plain = linear_backward(ctx, dy, x, w, true, true, true);
        return std::vector<Tensor>{
            y.y, y.pre, grads.dx, grads.dw, grads.db, plain.dx, plain.dw, plain.db, linear(ctx, x, w, bias)};
      }));
    }
    CHECK(same_bits_for_any_threads([&](Context& ctx) {
      const Tensor a = random_tensor(ctx, Shape{6, 65, 130}, dtype, 1),
                   b = random_tensor(ctx, Shape{130, 300}, dtype, 2),
                   c = random_tensor(ctx, Shape{130, 257}, dtype, 3);  // the last tile has one column
      return std::vector<Tensor>{matmul(ctx, a, b), matmul(ctx, a, c), matmul(ctx, a, a, false, true),
                                 matmul(ctx, a, a, true)};
    }));
  }
}

TEST_CASE("arguments that do not fit are named") {
  Context ctx(1);
  const Tensor a = ctx.zeros(Shape{3, 4}, DType::f32), b = ctx.zeros(Shape{5, 4}, DType::f32);
  CHECK_THROWS_WITH_AS(matmul(ctx, a, b), "[matmul] inner extents differ: [3,4] times [5,4]", ShapeError);
  CHECK_NOTHROW(matmul(ctx, a, b, false, true));
  CHECK_THROWS_AS(matmul(ctx, a, ctx.zeros(Shape{4}, DType::f32)), ShapeError);
  CHECK_THROWS_AS(matmul(ctx, ctx.zeros(Shape{2, 3, 4}, DType::f32), ctx.zeros(Shape{3, 4, 5}, DType::f32)),
                  ShapeError);
  CHECK_THROWS_WITH_AS(matmul(ctx, a, cast(ctx, b, DType::f64), false, true),
                       "[matmul] expected a and b of one dtype, got f32 and f64", DTypeError);
  CHECK_THROWS_AS(matmul(ctx, cast(ctx, a, DType::i32), cast(ctx, b, DType::i32), false, true), DTypeError);
  CHECK_THROWS_WITH_AS(linear(ctx, a, ctx.zeros(Shape{5, 6}, DType::f32), {}),
                       "[linear] expected x[...,in] and w[out,in], got x [3,4] and w [5,6]", ShapeError);
  CHECK_THROWS_WITH_AS(linear(ctx, a, b, ctx.zeros(Shape{4}, DType::f32)),
                       "[linear] expected bias of shape [5], got [4]", ShapeError);
}

TEST_CASE("rows without elements cost nothing, however many") {
  Context ctx(1);
  const std::int64_t many = std::int64_t{1} << 50;
  const Tensor x = ctx.empty({many, 0}, DType::f32), w = ctx.empty({0, 0}, DType::f32);
  const Tensor y = linear(ctx, x, w, {});
  CHECK(y.shape() == Shape{many, 0});
  const LinearGrads grads = linear_backward(ctx, y, x, w, true, true, true);
  CHECK(grads.dx.shape() == x.shape());
  CHECK(grads.dw.shape() == w.shape());
  CHECK(grads.db.shape() == Shape{0});
}

TEST_CASE("signals that interrupt products leave memory alone") {
  // In a child, because what this guards against ends the process.
  const int code = run_in_child([] {
    static volatile sig_atomic_t handled = 0;
    struct sigaction action = {};
    action.sa_handler = [](int) { handled = handled + 1; };
    action.sa_flags = SA_RESTART;
    const itimerval often = {{0, 200}, {0, 200}};  // microseconds
    if (sigaction(SIGALRM, &action, nullptr) != 0 || setitimer(ITIMER_REAL, &often, nullptr) != 0) return 3;
    Context ctx(1);
    for (const auto& [m, n, k] : {Size{256, 128, 128}, Size{128, 384, 256}}) {
      const Tensor a = random_tensor(ctx, Shape{m, k}, DType::f32, 1),
                   b = random_tensor(ctx, Shape{k, n}, DType::f32, 2);
      const Tensor at = clone(ctx, a.transpose(0, 1)), bt = clone(ctx, b.transpose(0, 1));
      const auto expected = to_vector<float>(ctx, matmul(ctx, a, b));
      for (int run = 0; run < 400; ++run) {
        const Tensor y = run % 2 == 0 ? matmul(ctx, at, b, true, false) : matmul(ctx, a, bt, false, true);
        const auto got = to_vector<float>(ctx, y);
        for (std::size_t i = 0; i < got.size(); ++i)
          if (!(std::abs(got[i] - expected[i]) <= 1e-3f)) return 1;
      }
    }
    return handled > 0 ? 0 : 2;
  });
  CHECK(code == 0);
}

TEST_SUITE_END();

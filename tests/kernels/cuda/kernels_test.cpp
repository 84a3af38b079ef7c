// What the op table does not reach: copies between dtypes, random numbers, the optimiser, diffusion, special
// values and empty tensors, on the CUDA backend against the CPU backend.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/conv.h"
#include "kernels/copy.h"
#include "kernels/diffusion.h"
#include "kernels/elementwise.h"
#include "kernels/index.h"
#include "kernels/loss.h"
#include "kernels/optim.h"
#include "kernels/random.h"
#include "kernels/reduce.h"
#include "kernels/softmax.h"
#include "tests/kernels/cuda/contexts.h"
#include "tests/kernels/cuda/orders.h"

using namespace llsa;
using namespace llsa::test;
namespace k = llsa::kernels;

TEST_SUITE_BEGIN("kernels/cuda/kernels");

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

bool same_bytes(Contexts& both, const Tensor& gpu, const Tensor& cpu) {
  const Tensor a = k::contiguous(both.cpu, both.to_cpu(gpu)), b = k::contiguous(both.cpu, cpu);
  return a.shape() == b.shape() && a.dtype() == b.dtype() &&
         (a.numel() == 0 || std::memcmp(a.raw(), b.raw(), a.nbytes()) == 0);
}

/// make(ctx) on both sides, compared to within a tolerance; 0: by bytes.
template <class Make>
void check_same(Contexts& both, double tolerance, Make&& make) {
  const Tensor cpu = make(both.cpu), gpu = make(both.gpu);
  if (tolerance == 0)
    CHECK(same_bytes(both, gpu, cpu));
  else
    CHECK(difference(both.cpu, both.to_cpu(gpu), cpu) <= tolerance);
}

}  // namespace

TEST_CASE("copies convert between all dtypes as on the CPU") {
  if (!cuda_device()) return;
  Contexts both;
  const std::vector<double> values = {0,          -0.0,         1.5,        -2.5, 255,  256,   300.7,
                                      -1,         2147483647.0, 3e9,        -3e9, 1e19, -1e19, 1e39,
                                      -1e39,      kInfinity,    -kInfinity, 0.1,  1e-3, 7,     1 + 0x1p-8,
                                      1 + 0x1p-9, 3.0e38,       127,        128};
  const auto n = static_cast<std::int64_t>(values.size());
  for (const DType from : {DType::f32, DType::bf16, DType::f64, DType::i32, DType::i64, DType::u8}) {
    for (const DType to : {DType::f32, DType::bf16, DType::f64, DType::i32, DType::i64, DType::u8}) {
      INFO(std::string(name_of(from)) << " to " << std::string(name_of(to)));
      const auto make = [&](Context& ctx) {
        return k::cast(ctx, k::cast(ctx, k::from_vector(ctx, values, {n}), from), to);
      };
      check_same(both, 0, make);
      check_same(both, 0, [&](Context& ctx) {  // strided, broadcast
        const Tensor x = k::cast(ctx, k::from_vector(ctx, values, {n}), from).slice(0, 0, n, 3);
        const Tensor out = ctx.zeros({x.numel(), 4, 3}, to);
        k::copy(ctx, x.unsqueeze(1).unsqueeze(2), out.transpose(1, 2));
        return out;
      });
    }
  }
  const Tensor nan = k::from_vector(both.gpu, std::vector<double>{kNaN}, {1});
  CHECK(both.gpu.item(k::cast(both.gpu, nan, DType::i32)) == 0);
  CHECK(std::isnan(both.gpu.item(k::cast(both.gpu, nan, DType::bf16))));
}

TEST_CASE("dense copies of every length, fills, concatenation") {
  if (!cuda_device()) return;
  Contexts both;
  for (const std::int64_t n : {0, 1, 3, 4, 7, 8, 9, 255, 257, 1031}) {
    CAPTURE(n);
    check_same(both, 0, [&](Context& ctx) {
      const Tensor x = k::random_uniform(ctx, {n + 1}, DType::f32, 1, 2);
      return k::cast(ctx, x.slice(0, 1, n + 1), DType::bf16);  // not aligned to 16 bytes
    });
    check_same(both, 0,
               [&](Context& ctx) { return k::clone(ctx, k::random_uniform(ctx, {n}, DType::bf16, 1, 2)); });
    check_same(both, 0, [&](Context& ctx) {
      const Tensor x = ctx.zeros({2, n, 3}, DType::i64);
      k::fill(ctx, x.slice(2, 1, 3), -5.9);
      return x;
    });
    check_same(both, 0, [&](Context& ctx) {
      const Tensor x = k::random_uniform(ctx, {2, n, 3}, DType::f64, 1, 2);
      return k::concat(ctx, {x, x.slice(1, 0, n / 2)}, 1);
    });
  }
}

TEST_CASE("random integers and uniforms are those of the CPU bit for bit, normals to 1e-6") {
  if (!cuda_device()) return;
  Contexts both;
  const std::vector<std::int64_t> ids = {0, 1, -1, 77, std::int64_t{1} << 40};
  for (const std::int64_t n : {1, 4, 5, 1003}) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
      CAPTURE(n);
      check_same(both, 0,
                 [&](Context& ctx) { return k::random_uniform(ctx, {n}, dtype, 12345, 1ull << 60); });
      check_same(both, 0, [&](Context& ctx) {
        return k::random_uniform_samples(ctx, {5, n}, dtype, 3, 4, k::from_vector(ctx, ids, {5}));
      });
      const double tolerance = dtype == DType::bf16 ? 0x1p-8 : 1e-6;
      check_same(both, tolerance, [&](Context& ctx) { return k::random_normal(ctx, {n}, dtype, 5, 6); });
      check_same(both, tolerance, [&](Context& ctx) {
        return k::random_normal_samples(ctx, {5, n}, dtype, 3, 4, k::from_vector(ctx, ids, {5}));
      });
    }
  }
}

TEST_CASE("reductions: many elements, all axes, NaN, nothing") {
  if (!cuda_device()) return;
  Contexts both;
  for (const Shape& shape :
       {Shape{5000}, Shape{300, 7}, Shape{3, 150, 5}, Shape{2, 3, 4, 5}, Shape{1, 1}, Shape{}}) {
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
      const double tolerance = dtype == DType::f64 ? 1e-12 : dtype == DType::bf16 ? 0x1p-8 : 1e-5;
      std::vector<std::vector<int>> all = {{}};
      for (int axis = 0; axis < shape.rank(); ++axis) all.push_back({axis});
      if (shape.rank() == 4) all.insert(all.end(), {{0, 2}, {1, 3}, {0, 1, 3}});
      for (const std::vector<int>& axes : all) {
        INFO(shape.str() << " " << std::string(name_of(dtype)));
        const auto x = [&](Context& ctx) { return k::random_uniform(ctx, shape, dtype, 1, 1); };
        check_same(both, tolerance, [&](Context& ctx) { return k::sum(ctx, x(ctx), axes, true); });
        check_same(both, tolerance, [&](Context& ctx) { return k::mean(ctx, x(ctx), axes, false); });
        check_same(both, 0, [&](Context& ctx) { return k::max(ctx, x(ctx), axes, false); });
      }
    }
  }
  const std::vector<float> values = {1, static_cast<float>(kNaN), 3, -static_cast<float>(kInfinity)};
  const Tensor x = k::from_vector(both.gpu, values, {2, 2});
  const auto largest = k::to_vector<float>(both.gpu, k::max(both.gpu, x, {1}, false));
  CHECK(std::isnan(largest[0]));
  CHECK(largest[1] == 3);
  check_same(both, 0, [](Context& ctx) { return k::sum(ctx, ctx.empty({3, 0}, DType::f32), {1}, false); });
  CHECK(std::isnan(both.gpu.item(k::mean(both.gpu, both.gpu.empty({0}, DType::f32), {0}, false))));
  check_same(both, 0, [](Context& ctx) { return k::softmax(ctx, ctx.empty({3, 0}, DType::f32)); });
  check_same(both, 0, [](Context& ctx) { return k::log_sum_exp(ctx, ctx.empty({3, 0}, DType::f32)); });
}

TEST_CASE("comparisons, choices and where the largest stands are those of the CPU") {
  if (!cuda_device()) return;
  Contexts both;
  /// Tensors of few different numbers, so that many are equal; made on the CPU.
  const auto draw = [&](const Shape& shape, DType dtype, std::uint64_t stream,
                        const std::vector<double>& of) {
    auto x = k::to_vector<double>(both.cpu, k::random_uniform(both.cpu, shape, DType::f32, 1, stream));
    for (double& value : x) value = of[static_cast<std::size_t>(value * static_cast<double>(of.size()))];
    return k::cast(both.cpu, k::from_vector(both.cpu, x, shape), dtype);
  };
  const auto on = [&](Context& ctx, const Tensor& x) { return ctx.device().is_cpu() ? x : both.to_gpu(x); };
  const std::vector<double> plain = {-1, 0, 0.5, 1}, odd = {-1, 0.5, 1, -kInfinity, kInfinity, kNaN};
  using Function = Tensor (*)(Context&, const Tensor&, const Tensor&);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    for (const Shape& row : {Shape{3, 40, 5}, Shape{5}, Shape{3, 1, 5}, Shape{}}) {
      INFO(std::string(name_of(dtype)) << " " << row.str());
      const auto check = [&](Function f, const std::vector<double>& numbers) {
        const Tensor a = draw({3, 40, 5}, dtype, 1, numbers), b = draw(row, dtype, 2, numbers);
        check_same(both, 0, [&](Context& ctx) { return f(ctx, on(ctx, a), on(ctx, b)); });
      };
      for (const Function f : {k::greater, k::less, k::greater_equal, k::less_equal, k::equal, k::not_equal})
        check(f, odd);
      for (const Function f : {k::maximum, k::minimum}) check(f, plain);
      check([](Context& ctx, const Tensor& a, const Tensor& b) { return k::where(ctx, a, b, a); }, plain);
      check([](Context& ctx, const Tensor& a, const Tensor&) { return k::clamp(ctx, a, -0.5, 0.5); }, plain);
    }
    for (const Shape& shape : {Shape{70}, Shape{3, 40, 5}, Shape{2, 1, 1000}})
      for (int axis = 0; axis < shape.rank(); ++axis)
        for (const auto& numbers : {plain, odd}) {
          const Tensor x = draw(shape, dtype, 3, numbers);
          check_same(both, 0, [&](Context& ctx) { return k::argmax(ctx, on(ctx, x), axis); });
        }
    for (const Function f : {k::maximum, k::minimum}) {
      const auto nan_of = [&](Context& ctx) {
        const Tensor y = f(ctx, on(ctx, draw({400}, dtype, 1, odd)), on(ctx, draw({400}, dtype, 2, odd)));
        return k::not_equal(ctx, y, y);
      };
      check_same(both, 0, nan_of);
    }
  }
}

TEST_CASE("finite or not") {
  if (!cuda_device()) return;
  Contexts both;
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    const Tensor x = both.gpu.zeros({1037}, dtype);
    CHECK(both.gpu.item(k::all_finite(both.gpu, x)) == 1);
    for (const double bad : {kNaN, kInfinity, -kInfinity}) {
      k::fill(both.gpu, x.slice(0, 1036, 1037), bad);
      CHECK(both.gpu.item(k::all_finite(both.gpu, x)) == 0);
      k::fill(both.gpu, x, 1.0);
    }
  }
  CHECK(both.gpu.item(k::all_finite(both.gpu, both.gpu.empty({0}, DType::f32))) == 1);
}

TEST_CASE("activations at the ends of their range") {
  if (!cuda_device()) return;
  Contexts both;
  const std::vector<double> values = {-1e30, -100, -20, -9.6, -1, -1e-8, 0, 1e-8, 1, 9.6, 20, 88, 100, 1e30};
  const auto n = static_cast<std::int64_t>(values.size());
  for (const DType dtype : {DType::f32, DType::f64}) {
    const auto x = [&](Context& ctx) { return k::cast(ctx, k::from_vector(ctx, values, {n}), dtype); };
    const auto ones = [&](Context& ctx) {
      const Tensor one = ctx.empty({n}, dtype);
      k::fill(ctx, one, 1.0);
      return one;
    };
    using Unary = Tensor (*)(Context&, const Tensor&);
    for (const Unary f : {Unary(k::sigmoid), Unary(k::tanh), Unary(k::relu), Unary(k::silu),
                          Unary(k::gelu_tanh), Unary(k::gelu_erf)}) {
      for (std::int64_t i = 0; i < n; ++i) {
        CAPTURE(values[static_cast<std::size_t>(i)]);
        check_same(both, 1e-5, [&](Context& ctx) { return f(ctx, x(ctx)).slice(0, i, i + 1); });
      }
    }
    for (const k::UnaryOp op :
         {k::UnaryOp::relu, k::UnaryOp::silu, k::UnaryOp::gelu_tanh, k::UnaryOp::gelu_erf})
      check_same(both, 1e-5, [&](Context& ctx) { return k::unary_backward(ctx, op, ones(ctx), x(ctx)); });
  }
}

TEST_CASE("numbers out of range give NaN rows, and bad labels a NaN loss") {
  if (!cuda_device()) return;
  Contexts both;
  Context& gpu = both.gpu;
  const Tensor table = k::random_normal(gpu, {3, 2}, DType::f32, 1, 1);
  const Tensor ids = k::from_vector(gpu, std::vector<std::int32_t>{0, 3, -1, 2}, {4});
  const auto rows = k::to_vector<float>(gpu, k::embedding(gpu, table, ids));
  CHECK(!std::isnan(rows[0]));
  CHECK(std::isnan(rows[2]));
  CHECK(std::isnan(rows[5]));
  CHECK(!std::isnan(rows[7]));
  const Tensor dy = gpu.empty({4, 2}, DType::f32);
  k::fill(gpu, dy, 1.0);
  CHECK(k::to_vector<float>(gpu, k::embedding_backward(gpu, dy, ids, 3)) ==
        std::vector<float>{1, 1, 0, 0, 1, 1});
  const Tensor logits = k::random_normal(gpu, {2, 3}, DType::f32, 1, 1);
  const Tensor labels = k::from_vector(gpu, std::vector<std::int32_t>{0, 3}, {2});
  CHECK(std::isnan(gpu.item(k::cross_entropy(gpu, logits, labels))));
  const Tensor twice = k::from_vector(gpu, std::vector<std::int32_t>{0, 1, 1}, {3});
  CHECK_THROWS_AS(k::inverse_order(gpu, twice), ValueError);
  const Tensor outside = k::from_vector(gpu, std::vector<std::int32_t>{0, 1, 3}, {3});
  CHECK_THROWS_AS(k::inverse_order(gpu, outside), ValueError);
}

TEST_CASE("adding many rows by number, wide and narrow") {
  if (!cuda_device()) return;
  Contexts both;
  std::vector<std::int32_t> numbers(201);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<std::int32_t>(i * i % 7);
  for (const std::int64_t width : {1, 31, 130}) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
      check_same(both, dtype == DType::bf16 ? 0x1p-7 : 1e-6, [&](Context& ctx) {
        const Tensor dy = k::cast(ctx, k::random_normal(ctx, {201, width}, DType::f32, 3, 3), dtype);
        return k::embedding_backward(ctx, dy, k::from_vector(ctx, numbers, {201}), 9);
      });
    }
  }
}

TEST_CASE("convolution: strides, padding, kernels larger than strides and smaller") {
  if (!cuda_device()) return;
  Contexts both;
  using Two = std::array<std::int64_t, 2>;
  struct Case {
    Shape x, w;
    Two stride, padding;
  };
  for (const Case& c :
       {Case{{2, 3, 7, 6}, {4, 3, 3, 3}, {1, 1}, {1, 1}}, Case{{1, 2, 9, 8}, {3, 2, 2, 3}, {3, 2}, {0, 2}},
        Case{{2, 1, 5, 5}, {2, 1, 5, 1}, {2, 1}, {2, 0}}, Case{{1, 1, 4, 4}, {1, 1, 2, 2}, {2, 2}, {0, 0}}}) {
    for (const DType dtype : {DType::f32, DType::f64}) {
      const auto x = [&](Context& ctx) { return k::random_uniform(ctx, c.x, dtype, 1, 1); };
      const auto w = [&](Context& ctx) { return k::random_uniform(ctx, c.w, dtype, 1, 2); };
      check_same(both, 1e-5,
                 [&](Context& ctx) { return k::conv2d(ctx, x(ctx), w(ctx), Tensor(), c.stride, c.padding); });
      const auto grads = [&](Context& ctx) {
        const Tensor y = k::conv2d(ctx, x(ctx), w(ctx), Tensor(), c.stride, c.padding);
        return k::conv2d_backward(ctx, y, x(ctx), w(ctx), c.stride, c.padding, true, true, true);
      };
      check_same(both, 1e-5, [&](Context& ctx) { return grads(ctx).dx; });
      check_same(both, 1e-5, [&](Context& ctx) { return grads(ctx).dw; });
      check_same(both, 1e-5, [&](Context& ctx) { return grads(ctx).db; });
    }
  }
}

TEST_CASE("the optimiser's steps, with clipping, average and a gradient that is not finite") {
  if (!cuda_device()) return;
  Contexts both;
  for (const DType dtype : {DType::f32, DType::f64}) {
    struct State {
      Tensor w, m, v, ema, low, step;
      k::ClipResult clip;
    };
    const auto train = [&](Context& ctx, bool fused) {
      const std::int64_t n = 4099;
      State s{k::random_uniform(ctx, {n}, dtype, 1, 1),
              ctx.zeros({n}, dtype),
              ctx.zeros({n}, dtype),
              ctx.zeros({n}, dtype),
              ctx.zeros({n}, DType::bf16),
              ctx.zeros({1}, DType::i64),
              {}};
      const Tensor lr = k::from_vector(ctx, std::vector<double>{1e-2}, {1});
      for (int step = 0; step < 4; ++step) {
        const Tensor g = k::random_uniform(ctx, {n}, dtype, 2, static_cast<std::uint64_t>(step));
        if (step == 3) k::fill(ctx, g.slice(0, 5, 6), kInfinity);
        s.clip = k::clip_gradient(ctx, k::sum_squares(ctx, g), 1.0);
        k::advance_step(ctx, s.step, s.clip.skip);
        const k::AdamWBuffers buffers{s.w, g, s.m, s.v, fused ? s.low : Tensor()};
        const k::AdamWScalars scalars{lr, s.clip.factor, s.step, s.clip.skip};
        const Tensor decay = k::ema_decay(ctx, s.step);
        if (fused) {
          k::adamw_ema_step(ctx, buffers, scalars, {}, s.ema, decay);
        } else {
          k::adamw_step(ctx, buffers, scalars, {});
          k::ema_update(ctx, s.ema, s.w, decay, s.clip.skip);
          k::copy(ctx, s.w, s.low);
        }
      }
      return s;
    };
    const std::uint64_t before = both.gpu.synchronizations();
    const State gpu = train(both.gpu, true);
    CHECK(both.gpu.synchronizations() == before);
    const State cpu = train(both.cpu, true), apart = train(both.gpu, false);
    const double tolerance = dtype == DType::f64 ? 1e-12 : 1e-6;
    CHECK(difference(both.cpu, both.to_cpu(gpu.w), cpu.w) <= tolerance);
    CHECK(difference(both.cpu, both.to_cpu(gpu.m), cpu.m) <= tolerance);
    CHECK(difference(both.cpu, both.to_cpu(gpu.v), cpu.v) <= tolerance);
    CHECK(difference(both.cpu, both.to_cpu(gpu.ema), cpu.ema) <= tolerance);
    CHECK(same_bytes(both, gpu.w, both.to_cpu(apart.w)));
    CHECK(same_bytes(both, gpu.ema, both.to_cpu(apart.ema)));
    CHECK(same_bytes(both, gpu.low, both.to_cpu(apart.low)));
    CHECK(both.gpu.item(gpu.step) == 3);
    CHECK(both.gpu.item(gpu.clip.skip) == 1);
  }
  for (const DType dtype : {DType::f32, DType::f64})
    for (const double momentum : {0.0, 0.9}) {
      const auto sgd = [&](Context& ctx, bool of_copy) {
        const std::int64_t n = 4099;
        const Tensor w = k::random_uniform(ctx, {n}, dtype, 1, 1), low = ctx.zeros({n}, DType::bf16);
        const Tensor v = momentum > 0 ? ctx.zeros({n}, dtype) : Tensor();
        const Tensor lr = k::from_vector(ctx, std::vector<double>{1e-1}, {1});
        const Tensor factor = k::from_vector(ctx, std::vector<double>{0.5}, {1});
        for (int step = 0; step < 4; ++step) {
          const Tensor g = k::random_uniform(ctx, {n}, dtype, 2, static_cast<std::uint64_t>(step));
          const Tensor skip = k::from_vector(ctx, std::vector<std::int32_t>{step == 3}, {1});
          k::sgd_step(ctx, {w, g, v, low}, {lr, step == 0 ? Tensor() : factor, skip}, {momentum, 0.1});
        }
        return of_copy ? low : w;
      };
      check_same(both, dtype == DType::f64 ? 1e-12 : 1e-6, [&](Context& ctx) { return sgd(ctx, false); });
      check_same(both, 1e-2, [&](Context& ctx) { return sgd(ctx, true); });
    }
  check_same(both, 1e-12, [](Context& ctx) {
    return k::sum_squares(ctx, k::random_uniform(ctx, {10007}, DType::f32, 1, 1));
  });
  check_same(both, 0, [](Context& ctx) { return k::sum_squares(ctx, ctx.empty({0}, DType::f32)); });
}

TEST_CASE("noise levels, class drops, mixing and time embeddings") {
  if (!cuda_device()) return;
  Contexts both;
  std::vector<std::int64_t> ids(257);
  std::iota(ids.begin(), ids.end(), 1000);
  std::vector<std::int32_t> classes(257);
  for (std::size_t i = 0; i < classes.size(); ++i) classes[i] = static_cast<std::int32_t>(i % 5);
  const auto id = [&](Context& ctx) { return k::from_vector(ctx, ids, {257}); };
  const auto y = [&](Context& ctx) { return k::from_vector(ctx, classes, {257}); };
  check_same(both, 0,
             [&](Context& ctx) { return k::noise_levels(ctx, id(ctx), k::NoiseLevel::uniform, 1, 2); });
  check_same(both, 1.001e-3,
             [&](Context& ctx) { return k::noise_levels(ctx, id(ctx), k::NoiseLevel::logit_normal, 1, 2); });
  check_same(both, 1.001e-3, [&](Context& ctx) {
    return k::noise_levels(ctx, id(ctx), k::NoiseLevel::logit_normal, 1, 2, {-0.8, 0.8});
  });
  check_same(both, 0, [&](Context& ctx) { return k::drop_classes(ctx, y(ctx), id(ctx), 0.3, 5, 1, 2); });
  check_same(both, 0, [&](Context& ctx) { return k::class_rows(ctx, y(ctx), 5, 3); });
  CHECK(k::to_vector<std::int32_t>(both.gpu, k::class_rows(both.gpu, y(both.gpu), 4, 1))[4] == -1);
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    const double tolerance = dtype == DType::bf16 ? 0x1p-8 : 1e-6;
    const auto pair = [&](Context& ctx) {
      const Tensor x = k::random_uniform(ctx, {257, 3, 2}, dtype, 1, 1),
                   e = k::random_uniform(ctx, {257, 3, 2}, dtype, 1, 2);
      return k::flow_mix(ctx, x, e, k::random_uniform(ctx, {257}, DType::f32, 1, 3), 1.5);
    };
    check_same(both, tolerance, [&](Context& ctx) { return pair(ctx).x_t; });
    check_same(both, tolerance, [&](Context& ctx) { return pair(ctx).target; });
    check_same(both, tolerance, [&](Context& ctx) {
      return k::time_embedding(ctx, k::affine(ctx, k::random_uniform(ctx, {9}, DType::f32, 1, 3), 999.0, 1.0),
                               dtype);
    });
  }
}

TEST_CASE("same bits in all orders") {
  if (!cuda_device()) return;
  Contexts both;
  for_all_orders([&] {
    Context& gpu = both.gpu;
    const Tensor x = k::random_normal(gpu, {9001}, DType::f32, 1, 1);
    std::vector<double> all = {gpu.item(k::sum_squares(gpu, x)), gpu.item(k::sum(gpu, x, {0}, false)),
                               gpu.item(k::all_finite(gpu, x)), gpu.item(k::mse(gpu, x, k::square(gpu, x)))};
    return all;
  });
}

TEST_SUITE_END();

// AdamW, clipping and moving averages against plain f64 loops.
#include "kernels/optim.h"

#include "tests/support/kernels.h"

TEST_SUITE_BEGIN("kernels/optim");

using namespace llsa;
using namespace llsa::test;

namespace {

Tensor f64_scalar(Context& ctx, double value) { return kernels::from_vector(ctx, Values{value}, Shape{1}); }
Tensor step_number(Context& ctx, std::int64_t n) {
  return kernels::from_vector(ctx, std::vector<std::int64_t>{n}, Shape{1});
}
Tensor flag(Context& ctx, std::int32_t value) {
  return kernels::from_vector(ctx, std::vector<std::int32_t>{value}, Shape{1});
}

struct Buffers {
  Tensor w, g, m, v, ema;

  Buffers(Context& ctx, std::int64_t n, DType dtype)
      : w(random_tensor(ctx, Shape{n}, dtype, 1)),
        g(random_tensor(ctx, Shape{n}, dtype, 2)),
        m(ctx.zeros(Shape{n}, dtype)),
        v(ctx.zeros(Shape{n}, dtype)),
        ema(random_tensor(ctx, Shape{n}, dtype, 3)) {}

  kernels::AdamWBuffers adamw() const { return {w, g, m, v}; }
};

/// The formulas of optim.h on f64 values.
struct Reference {
  Values w, g, m, v;

  void step(double lr, double factor, double n, const kernels::AdamWOptions& o) {
    for (std::size_t i = 0; i < w.size(); ++i) {
      const double gradient = factor * g[i];
      m[i] = o.beta1 * m[i] + (1 - o.beta1) * gradient;
      v[i] = o.beta2 * v[i] + (1 - o.beta2) * gradient * gradient;
      const double mean = m[i] / (1 - std::pow(o.beta1, n)), square = v[i] / (1 - std::pow(o.beta2, n));
      w[i] = w[i] * (1 - lr * o.weight_decay) - lr * mean / (std::sqrt(square) + o.eps);
    }
  }
};

}  // namespace

TEST_CASE("adamw_step over several steps, odd sizes") {
  Context ctx(2);
  for (const DType dtype : {DType::f32, DType::f64}) {
    for (const std::int64_t n : {1, 31, 33, 257, 40001}) {
      CAPTURE(name_of(dtype));
      CAPTURE(n);
      const Buffers b(ctx, n, dtype);
      Reference want{values_of(ctx, b.w), values_of(ctx, b.g), values_of(ctx, b.m), values_of(ctx, b.v)};
      const kernels::AdamWOptions options{0.8, 0.95, 1e-6, 0.1};
      const Tensor step = ctx.zeros(Shape{1}, DType::i64);
      for (int k = 1; k <= 4; ++k) {
        kernels::advance_step(ctx, step, Tensor());
        kernels::adamw_step(ctx, b.adamw(),
                            {f64_scalar(ctx, 0.01 * k), f64_scalar(ctx, 0.5), step, flag(ctx, 0)}, options);
        want.step(0.01 * k, 0.5, k, options);
      }
      const double bound = dtype == DType::f64 ? 1e-14 : 1e-6;
      CHECK(deviation(ctx, b.w, want.w) <= bound);
      CHECK(deviation(ctx, b.m, want.m) <= bound);
      CHECK(deviation(ctx, b.v, want.v) <= bound);
    }
  }
}

TEST_CASE("an undefined factor is 1; the first step moves each weight by the learning rate") {
  Context ctx(1);
  const Buffers b(ctx, 100, DType::f64);
  const Values before = values_of(ctx, b.w), g = values_of(ctx, b.g);
  kernels::adamw_step(ctx, b.adamw(), {f64_scalar(ctx, 0.1), Tensor(), step_number(ctx, 1), Tensor()},
                      {0.9, 0.999, 0.0, 0.0});
  const Values after = values_of(ctx, b.w);
  for (std::size_t i = 0; i < after.size(); ++i)
    CHECK(std::abs(before[i] - after[i] - std::copysign(0.1, g[i])) <= 1e-12);
}

TEST_CASE("adamw_ema_step is adamw_step and ema_update, bit for bit") {
  Context ctx(2);
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Buffers a(ctx, 50001, dtype), b(ctx, 50001, dtype);
    for (int k = 1; k <= 3; ++k) {
      const Tensor step = step_number(ctx, k), decay = kernels::ema_decay(ctx, step);
      const kernels::AdamWScalars scalars{f64_scalar(ctx, 1e-3), f64_scalar(ctx, 0.7), step, flag(ctx, 0)};
      kernels::adamw_ema_step(ctx, a.adamw(), scalars, {}, a.ema, decay);
      kernels::adamw_step(ctx, b.adamw(), scalars, {});
      kernels::ema_update(ctx, b.ema, b.w, decay, flag(ctx, 0));
      CHECK(same_bits(ctx, a.w, b.w));
      CHECK(same_bits(ctx, a.ema, b.ema));
    }
  }
}

TEST_CASE("a bf16 copy in the step's pass is the copy made after it, bit for bit") {
  Context ctx(2);
  for (const DType dtype : {DType::f32, DType::f64}) {
    for (const bool average : {false, true}) {
      const Buffers a(ctx, 50001, dtype), b(ctx, 50001, dtype);
      const Tensor low = ctx.zeros(a.w.shape(), DType::bf16);
      for (int k = 1; k <= 3; ++k) {
        const Tensor step = step_number(ctx, k), decay = kernels::ema_decay(ctx, step);
        // The last step is skipped: it leaves the copy as it was.
        const kernels::AdamWScalars scalars{f64_scalar(ctx, 1e-2), Tensor(), step, flag(ctx, k == 3)};
        const kernels::AdamWBuffers with_copy{a.w, a.g, a.m, a.v, low};
        if (average)
          kernels::adamw_ema_step(ctx, with_copy, scalars, {}, a.ema, decay);
        else
          kernels::adamw_step(ctx, with_copy, scalars, {});
        kernels::adamw_step(ctx, b.adamw(), scalars, {});
        if (average) kernels::ema_update(ctx, b.ema, b.w, decay, scalars.skip);
        CHECK(same_bits(ctx, a.w, b.w));
        CHECK(same_bits(ctx, a.ema, b.ema));
        CHECK(same_bits(ctx, low, kernels::cast(ctx, b.w, DType::bf16)));
      }
    }
  }
}

TEST_CASE("sgd_step over several steps, odd sizes, with and without momentum, factor, bf16 copy") {
  Context ctx(2);
  for (const DType dtype : {DType::f32, DType::f64})
    for (const std::int64_t n : {1, 31, 257, 40001})
      for (const double momentum : {0.0, 0.9}) {
        CAPTURE(name_of(dtype));
        CAPTURE(n);
        CAPTURE(momentum);
        const Buffers b(ctx, n, dtype);
        const Tensor v = momentum > 0 ? b.v : Tensor(), low = ctx.zeros(Shape{n}, DType::bf16);
        Values w = values_of(ctx, b.w), velocity(w.size(), 0.0);
        const Values g = values_of(ctx, b.g);
        for (int k = 1; k <= 4; ++k) {
          const double lr = 0.1 * k, factor = k == 1 ? 1.0 : 0.5;
          kernels::sgd_step(
              ctx, {b.w, b.g, v, low},
              {f64_scalar(ctx, lr), k == 1 ? Tensor() : f64_scalar(ctx, factor), flag(ctx, k == 4)},
              {momentum, 0.1});
          for (std::size_t i = 0; i < w.size() && k < 4; ++i) {  // the last step is skipped
            velocity[i] = momentum * velocity[i] + factor * g[i] + 0.1 * w[i];
            w[i] -= lr * velocity[i];
          }
        }
        const double bound = dtype == DType::f64 ? 1e-14 : 1e-6;
        CHECK(deviation(ctx, b.w, w) <= bound);
        if (momentum > 0) CHECK(deviation(ctx, v, velocity) <= bound);
        CHECK(same_bits(ctx, low, kernels::cast(ctx, b.w, DType::bf16)));
      }
  const Buffers b(ctx, 4, DType::f32);
  const kernels::SgdScalars scalars{f64_scalar(ctx, 0.1), Tensor(), Tensor()};
  CHECK_THROWS_AS(kernels::sgd_step(ctx, {b.w, b.g}, scalars, {0.9, 0.0}), ValueError);
  CHECK_THROWS_AS(kernels::sgd_step(ctx, {b.w, b.g, b.v}, scalars, {0.0, 0.0}), ValueError);
  CHECK_THROWS_AS(kernels::sgd_step(ctx, {b.w, b.g, b.v}, scalars, {1.0, 0.0}), ValueError);
  CHECK_THROWS_AS(kernels::sgd_step(ctx, {b.w, b.g}, scalars, {0.0, -1.0}), ValueError);
}

TEST_CASE("ema_decay follows its law; ema_update follows its formula") {
  Context ctx(1);
  for (const std::int64_t n : {1, 2, 10, 1000, 250000, 100000000}) {
    const double want = std::min(1 - std::pow(static_cast<double>(n), -0.75), 0.9999);
    CHECK(std::abs(values_of(ctx, kernels::ema_decay(ctx, step_number(ctx, n)))[0] - want) <= 1e-15);
  }
  CHECK(values_of(ctx, kernels::ema_decay(ctx, step_number(ctx, 0)))[0] == 0);
  CHECK(values_of(ctx, kernels::ema_decay(ctx, step_number(ctx, 100), {0.5, 0.8}))[0] == 0.8);
  CHECK(values_of(ctx, kernels::ema_decay(ctx, step_number(ctx, 1),
                                          {.max_decay = 0.8, .warm_up = false}))[0] == 0.8);
  const Buffers b(ctx, 33, DType::f64);
  const Values ema = values_of(ctx, b.ema), w = values_of(ctx, b.w);
  Values want(33);
  for (std::size_t i = 0; i < 33; ++i) want[i] = 0.9 * ema[i] + 0.1 * w[i];
  kernels::ema_update(ctx, b.ema, b.w, f64_scalar(ctx, 0.9), Tensor());
  CHECK(deviation(ctx, b.ema, want) <= 1e-15);
  b.ema.data<double>()[3] = kNan;
  kernels::ema_update(ctx, b.ema, b.w, f64_scalar(ctx, 0), Tensor());
  CHECK(same_bits(ctx, b.ema, b.w));
}

TEST_CASE("sum_squares and clip_gradient") {
  Context ctx(2);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    for (const std::int64_t n : {0, 1, 31, 33, 257, 70001}) {
      const Tensor g = random_tensor(ctx, Shape{n}, dtype, 1);
      const Values v = values_of(ctx, g);
      CHECK(deviation(ctx, kernels::sum_squares(ctx, g), Values{dot(v, v)}) <= 1e-13);
    }
  }
  CHECK(values_of(ctx, kernels::sum_squares(ctx, kernels::from_vector(ctx, std::vector<float>{3e30f},
                                                                      Shape{1})))[0] >= 8.9e60);
  const auto check = [&](double sum, double max_norm, double norm, double factor, double skip) {
    const kernels::ClipResult r = kernels::clip_gradient(ctx, f64_scalar(ctx, sum), max_norm);
    CHECK(deviation(ctx, r.norm, Values{norm}) == 0);
    CHECK(std::abs(values_of(ctx, r.factor)[0] - factor) <= 1e-12);
    CHECK(values_of(ctx, r.skip)[0] == skip);
  };
  check(0.25, 1, 0.5, 1, 0);
  check(16, 1, 4, 1 / (4 + 1e-6), 0);
  check(16, 0, 4, 1, 0);
  check(0, 1, 0, 1, 0);
  CHECK(values_of(ctx, kernels::clip_gradient(ctx, f64_scalar(ctx, kNan), 1).skip)[0] == 1);
  CHECK(values_of(ctx, kernels::clip_gradient(ctx, f64_scalar(ctx, kInfinity), 1).skip)[0] == 1);
}

TEST_CASE("a gradient that is not finite changes nothing") {
  Context ctx(2);
  for (const double bad : {kNan, kInfinity, -kInfinity}) {
    const Buffers b(ctx, 20000, DType::f32), untouched(ctx, 20000, DType::f32);
    b.g.data<float>()[12345] = static_cast<float>(bad);
    const kernels::ClipResult clip = kernels::clip_gradient(ctx, kernels::sum_squares(ctx, b.g), 1);
    const Tensor step = step_number(ctx, 5);
    kernels::advance_step(ctx, step, clip.skip);
    kernels::adamw_ema_step(ctx, b.adamw(), {f64_scalar(ctx, 1e-3), clip.factor, step, clip.skip}, {}, b.ema,
                            f64_scalar(ctx, 0.5));
    kernels::ema_update(ctx, b.ema, b.w, f64_scalar(ctx, 0.5), clip.skip);
    CHECK(values_of(ctx, step)[0] == 5);
    CHECK(same_bits(ctx, b.w, untouched.w));
    CHECK(same_bits(ctx, b.m, untouched.m));
    CHECK(same_bits(ctx, b.v, untouched.v));
    CHECK(same_bits(ctx, b.ema, untouched.ema));
  }
}

TEST_CASE("a step reads nothing back to the host") {
  Context ctx(1);
  const Buffers b(ctx, 100, DType::f32);
  const Tensor step = step_number(ctx, 0);
  const std::uint64_t before = ctx.synchronizations();
  const kernels::ClipResult clip = kernels::clip_gradient(ctx, kernels::sum_squares(ctx, b.g), 1);
  kernels::advance_step(ctx, step, clip.skip);
  kernels::adamw_ema_step(ctx, b.adamw(), {f64_scalar(ctx, 1e-3), clip.factor, step, clip.skip}, {}, b.ema,
                          kernels::ema_decay(ctx, step));
  CHECK(ctx.synchronizations() == before);
}

TEST_CASE("equal bits for any number of threads") {
  CHECK(same_bits_for_any_threads([](Context& ctx) {
    const Buffers b(ctx, 100003, DType::f32);
    const kernels::ClipResult clip = kernels::clip_gradient(ctx, kernels::sum_squares(ctx, b.g), 1);
    kernels::adamw_ema_step(ctx, b.adamw(),
                            {f64_scalar(ctx, 1e-3), clip.factor, step_number(ctx, 3), clip.skip}, {}, b.ema,
                            f64_scalar(ctx, 0.5));
    return std::vector<Tensor>{clip.norm, b.w, b.m, b.v, b.ema};
  }));
}

TEST_CASE("errors name the op and both sides") {
  Context ctx(1);
  const Buffers b(ctx, 6, DType::f32);
  const kernels::AdamWScalars scalars{f64_scalar(ctx, 1e-3), Tensor(), step_number(ctx, 1), Tensor()};
  const Tensor shorter = b.g.slice(0, 0, 5);
  CHECK(contains(message_of<ShapeError>([&] {
                   kernels::adamw_step(ctx, {b.w, shorter, b.m, b.v}, scalars, {});
                 }),
                 {"[adamw_step]", "g", "[6]", "[5]"}));
  const Tensor low = kernels::cast(ctx, b.w, DType::bf16);
  CHECK(contains(message_of<DTypeError>([&] {
                   kernels::adamw_step(ctx, {low, low, low, low}, scalars, {});
                 }),
                 {"[adamw_step]", "w", "bf16"}));
  CHECK(contains(message_of<ValueError>([&] {
                   kernels::adamw_step(ctx, {b.w, with_gaps(ctx, b.g), b.m, b.v}, scalars, {});
                 }),
                 {"[adamw_step]", "contiguous g"}));
  CHECK(contains(message_of<ValueError>([&] { kernels::adamw_step(ctx, b.adamw(), scalars, {1.0}); }),
                 {"[adamw_step]", "[0, 1)", "1"}));
  CHECK(contains(message_of<DTypeError>([&] {
                   kernels::adamw_step(ctx, b.adamw(), {b.w, Tensor(), step_number(ctx, 1), Tensor()}, {});
                 }),
                 {"[adamw_step]", "lr", "f64", "f32"}));
  CHECK(contains(message_of<DTypeError>([&] {
                   kernels::adamw_step(ctx, {b.w, b.g, b.m, b.v, b.ema}, scalars, {});
                 }),
                 {"[adamw_step]", "low", "bf16", "f32"}));
  CHECK(contains(message_of<ShapeError>([&] {
                   kernels::adamw_step(ctx, {b.w, b.g, b.m, b.v, low.slice(0, 1, 6)}, scalars, {});
                 }),
                 {"[adamw_step]", "low", "[6]", "[5]"}));
  CHECK(contains(message_of<ValueError>([&] { kernels::clip_gradient(ctx, f64_scalar(ctx, 1), -1); }),
                 {"[clip_gradient]", "-1"}));
  CHECK(contains(message_of<ShapeError>([&] {
                   kernels::ema_update(ctx, b.ema, b.w, ctx.zeros(Shape{2}, DType::f64), Tensor());
                 }),
                 {"[ema_update]", "decay", "[2]"}));
}

TEST_SUITE_END();

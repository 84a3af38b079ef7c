// The optimiser's arithmetic on the CPU, in one pass over memory. The moving average and the bf16 copy are updated
// block by block while the new weights are in the first-level cache. The average goes through the same function as the
// separate update, so both give the same bits.
#include "kernels/backend/training.h"

#include <cmath>

#include "kernels/cpu/chunks.h"

namespace llsa::kernels::cpu {
namespace {

constexpr std::int64_t kBlock = 1024;

template <class T>
double block_sum_squares(const T* g, std::int64_t n) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < n; ++i) {
    const double value = static_cast<accumulator_t<T>>(g[i]);
    sum += value * value;
  }
  return sum;
}

/// The constants of one step, rounded to the buffers' type.
template <class A>
struct AdamWFactors {
  A g, beta1, beta2, one_minus_beta1, one_minus_beta2, keep, step_size, inverse_sqrt_correction, eps;

  AdamWFactors(const AdamWScalars& scalars, const AdamWOptions& options) {
    const double lr = *scalars.lr.data<double>();
    const auto n = static_cast<double>(*scalars.step.data<std::int64_t>());
    g = static_cast<A>(scalars.factor.defined() ? *scalars.factor.data<double>() : 1.0);
    beta1 = static_cast<A>(options.beta1);
    beta2 = static_cast<A>(options.beta2);
    one_minus_beta1 = static_cast<A>(1.0 - options.beta1);
    one_minus_beta2 = static_cast<A>(1.0 - options.beta2);
    keep = static_cast<A>(1.0 - lr * options.weight_decay);
    step_size = static_cast<A>(lr / (1.0 - std::pow(options.beta1, n)));
    inverse_sqrt_correction = static_cast<A>(1.0 / std::sqrt(1.0 - std::pow(options.beta2, n)));
    eps = static_cast<A>(options.eps);
  }
};

template <class A>
void adamw_block(const AdamWFactors<A>& f, A* w, const A* g, A* m, A* v, std::int64_t n) {
  const AdamWFactors<A> k = f;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const A gradient = k.g * g[i];
    const A mean = k.beta1 * m[i] + k.one_minus_beta1 * gradient;
    const A square = k.beta2 * v[i] + k.one_minus_beta2 * (gradient * gradient);
    m[i] = mean;
    v[i] = square;
    w[i] = k.keep * w[i] - k.step_size * mean / (std::sqrt(square) * k.inverse_sqrt_correction + k.eps);
  }
}

/// v is null without momentum.
template <class A>
void sgd_block(A lr, A factor, A momentum, A weight_decay, A* w, const A* g, A* v, std::int64_t n) {
  if (v == nullptr) {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) w[i] -= lr * (factor * g[i] + weight_decay * w[i]);
    return;
  }
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    v[i] = momentum * v[i] + (factor * g[i] + weight_decay * w[i]);
    w[i] -= lr * v[i];
  }
}

template <class A>
[[gnu::noinline]] void ema_block(A decay, A rest, A* ema, const A* w, std::int64_t n) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) ema[i] = decay * ema[i] + rest * w[i];
}

/// ema = decay ema + (1 - decay) w; decay 0 copies, even where ema is not finite.
template <class A>
void ema_range(double decay, A* ema, const A* w, std::int64_t n) {
  if (decay == 0) {
    std::copy_n(w, n, ema);
  } else {
    ema_block(static_cast<A>(decay), static_cast<A>(1.0 - decay), ema, w, n);
  }
}

template <class A>
void round_block(const A* w, bf16* low, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) low[i] = bf16(static_cast<float>(w[i]));
}

bool is_set(const Tensor& skip) { return skip.defined() && *skip.data<std::int32_t>() != 0; }

/// Calls f.template operator()<T>() with float or double.
template <class F>
void visit_master(DType dtype, F&& f) {
  return dtype == DType::f64 ? f.template operator()<double>() : f.template operator()<float>();
}

void square_sums(Context& ctx, const Tensor& g, const Tensor& sums) {
  visit_floating(g.dtype(), "square_sums", [&]<class T>() {
    const std::int64_t n = g.numel();
    const T* in = g.data<T>();
    auto* out = sums.data<double>();
    run_rows(ctx, sums.numel(), kSquareStretch, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        out[i] = block_sum_squares(in + i * kSquareStretch, std::min(n - i * kSquareStretch, kSquareStretch));
    });
  });
}

void clip_gradient(Context&, const Tensor& sum_squares, double max_norm, const Tensor& norm,
                   const Tensor& factor, const Tensor& skip) {
  const double length = std::sqrt(*sum_squares.data<double>());
  *norm.data<double>() = length;
  *factor.data<double>() = max_norm > 0 ? std::min(1.0, max_norm / (length + 1e-6)) : 1.0;
  *skip.data<std::int32_t>() = std::isfinite(length) ? 0 : 1;
}

void advance_step(Context&, const Tensor& step, const Tensor& skip) {
  if (!is_set(skip)) ++*step.data<std::int64_t>();
}

void adamw(Context& ctx, const AdamWBuffers& buffers, const AdamWScalars& scalars,
           const AdamWOptions& options, const Tensor& ema, const Tensor& decay) {
  if (is_set(scalars.skip)) return;
  visit_master(buffers.w.dtype(), [&]<class A>() {
    const AdamWFactors<A> factors(scalars, options);
    const double average_decay = ema.defined() ? *decay.data<double>() : 0;
    A* w = buffers.w.data<A>();
    const A* g = buffers.g.data<A>();
    A* m = buffers.m.data<A>();
    A* v = buffers.v.data<A>();
    A* average = ema.defined() ? ema.data<A>() : nullptr;
    bf16* low = buffers.low.defined() ? buffers.low.data<bf16>() : nullptr;
    run_rows(ctx, buffers.w.numel(), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; i += kBlock) {
        const std::int64_t n = std::min(kBlock, end - i);
        adamw_block(factors, w + i, g + i, m + i, v + i, n);
        if (average != nullptr) ema_range(average_decay, average + i, w + i, n);
        if (low != nullptr) round_block(w + i, low + i, n);
      }
    });
  });
}

void sgd(Context& ctx, const SgdBuffers& buffers, const SgdScalars& scalars, const SgdOptions& options) {
  if (is_set(scalars.skip)) return;
  visit_master(buffers.w.dtype(), [&]<class A>() {
    const A lr = static_cast<A>(*scalars.lr.data<double>());
    const A factor = static_cast<A>(scalars.factor.defined() ? *scalars.factor.data<double>() : 1.0);
    A* w = buffers.w.data<A>();
    const A* g = buffers.g.data<A>();
    A* v = buffers.v.defined() ? buffers.v.data<A>() : nullptr;
    bf16* low = buffers.low.defined() ? buffers.low.data<bf16>() : nullptr;
    run_rows(ctx, buffers.w.numel(), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; i += kBlock) {
        const std::int64_t n = std::min(kBlock, end - i);
        sgd_block(lr, factor, static_cast<A>(options.momentum), static_cast<A>(options.weight_decay), w + i,
                  g + i, v != nullptr ? v + i : nullptr, n);
        if (low != nullptr) round_block(w + i, low + i, n);
      }
    });
  });
}

void ema_decay(Context&, const Tensor& step, const EmaOptions& options, const Tensor& decay) {
  const auto n = static_cast<double>(*step.data<std::int64_t>());
  *decay.data<double>() = n < 1 ? 0.0 : std::min(1.0 - std::pow(n, -options.power), options.max_decay);
}

void ema_update(Context& ctx, const Tensor& ema, const Tensor& w, const Tensor& decay, const Tensor& skip) {
  if (is_set(skip)) return;
  visit_master(w.dtype(), [&]<class A>() {
    const double value = *decay.data<double>();
    A* average = ema.data<A>();
    const A* weights = w.data<A>();
    run_rows(ctx, w.numel(), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; i += kBlock)
        ema_range(value, average + i, weights + i, std::min(kBlock, end - i));
    });
  });
}

}  // namespace

constinit const OptimBackend kOptim = {.square_sums = square_sums,
                                       .clip_gradient = clip_gradient,
                                       .advance_step = advance_step,
                                       .adamw = adamw,
                                       .sgd = sgd,
                                       .ema_decay = ema_decay,
                                       .ema_update = ema_update};

}  // namespace llsa::kernels::cpu

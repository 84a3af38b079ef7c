// The optimiser's arithmetic, in step n:
//
//     clip    g' = g min(1, max_norm / (norm + 1e-6)),  norm = sqrt(sum g^2)
//     AdamW   m = b1 m + (1 - b1) g',  v = b2 v + (1 - b2) g'^2,
//             w = (1 - lr decay) w - lr m / (1 - b1^n) / (sqrt(v / (1 - b2^n)) + eps)
//     SGD     v = momentum v + g' + decay w,  w = w - lr v
//     EMA     ema = d ema + (1 - d) w,  d = min(max_decay, 1 - n^-power)
//
// What changes from step to step is read on the device, so a step never makes the host wait: one thread turns the
// scalars into the factors of the step, then a thread per element reads them. For the norm a warp sums the
// squares of a stretch in f64; kernels/reduce.h adds these sums.
//
// Bytes per f32 weight: AdamW reads 16 and writes 12, 8 more with a moving average, 2 more with a bf16 copy (a
// pass of its own would move 6 for that copy). SGD reads 12 and writes 8, or 8 and 4 without momentum. The average
// alone moves 12, the norm 4 per f32 element and 2 per bf16. FLOPs: 15 per weight, a root and a quotient among
// them, and 3 for the average: about 0.5 per byte, bound by memory. The kernels of one thread are bound by their
// launches.
#include "kernels/backend/training.h"

#include <cmath>

#include "kernels/cuda/device/launch.cuh"
#include "kernels/cuda/device/types.cuh"

namespace llsa::kernels::cuda {
namespace {

template <class T>
__global__ void sums_of_stretches(std::int64_t n, const T* g, double* sums) {
  const std::int64_t piece = piece_of_warp(), first = piece * kSquareStretch;
  if (first >= n) return;
  const std::int64_t end = first + kSquareStretch < n ? first + kSquareStretch : n;
  double sum = 0;
  for (std::int64_t i = first + lane_of_thread(); i < end; i += 32) {
    const double value = static_cast<double>(static_cast<accumulator_t<T>>(g[i]));
    sum += value * value;
  }
  sum = warp_sum(sum);
  if (lane_of_thread() == 0) sums[piece] = sum;
}

__global__ void clip(const double* sum_squares, double max_norm, double* norm, double* factor,
                     std::int32_t* skip) {
  if (threadIdx.x != 0) return;
  const double length = std::sqrt(*sum_squares), fits = max_norm / (length + 1e-6);
  *norm = length;
  *factor = max_norm > 0 && fits < 1 ? fits : 1.0;
  *skip = std::isfinite(length) ? 0 : 1;
}

__device__ bool is_set(const std::int32_t* skip) { return skip != nullptr && *skip != 0; }

__global__ void count_step(std::int64_t* step, const std::int32_t* skip) {
  if (threadIdx.x == 0 && !is_set(skip)) ++*step;
}

/// The constants of one step, rounded to the buffers' type.
template <class A>
struct AdamWFactors {
  A g, beta1, beta2, one_minus_beta1, one_minus_beta2, keep, step_size, inverse_sqrt_correction, eps;
};

template <class A>
__global__ void prepare_step(const double* lr, const double* factor, const std::int64_t* step,
                             AdamWOptions options, AdamWFactors<A>* out) {
  if (threadIdx.x != 0) return;
  const double n = static_cast<double>(*step);
  out->g = static_cast<A>(factor != nullptr ? *factor : 1.0);
  out->beta1 = static_cast<A>(options.beta1);
  out->beta2 = static_cast<A>(options.beta2);
  out->one_minus_beta1 = static_cast<A>(1.0 - options.beta1);
  out->one_minus_beta2 = static_cast<A>(1.0 - options.beta2);
  out->keep = static_cast<A>(1.0 - *lr * options.weight_decay);
  out->step_size = static_cast<A>(*lr / (1.0 - std::pow(options.beta1, n)));
  out->inverse_sqrt_correction = static_cast<A>(1.0 / std::sqrt(1.0 - std::pow(options.beta2, n)));
  out->eps = static_cast<A>(options.eps);
}

/// decay ema + (1 - decay) w; decay 0 copies, even where ema is not finite. The multiplications are spelt
/// out, so that both kernels below round alike.
template <class A>
__device__ A averaged(double decay, A ema, A w) {
  return decay == 0 ? w : std::fma(static_cast<A>(decay), ema, static_cast<A>(1.0 - decay) * w);
}

template <class A>
__global__ void adamw_elements(std::int64_t n, const AdamWFactors<A>* factors, const std::int32_t* skip,
                               const double* decay, A* w, const A* g, A* m, A* v, A* ema,
                               __nv_bfloat16* low) {
  const std::int64_t i = piece_of_thread();
  if (i >= n || is_set(skip)) return;
  const AdamWFactors<A> k = *factors;
  const A gradient = k.g * g[i];
  const A mean = k.beta1 * m[i] + k.one_minus_beta1 * gradient;
  const A square = k.beta2 * v[i] + k.one_minus_beta2 * (gradient * gradient);
  const A weight =
      k.keep * w[i] - k.step_size * mean / (std::sqrt(square) * k.inverse_sqrt_correction + k.eps);
  m[i] = mean;
  v[i] = square;
  w[i] = weight;
  if (ema != nullptr) ema[i] = averaged(*decay, ema[i], weight);
  if (low != nullptr) low[i] = __nv_bfloat16(static_cast<float>(weight));
}

/// v is null without momentum, low without a bf16 copy.
template <class A>
__global__ void sgd_elements(std::int64_t n, const double* lr, const double* factor, const std::int32_t* skip,
                             SgdOptions options, A* w, const A* g, A* v, __nv_bfloat16* low) {
  const std::int64_t i = piece_of_thread();
  if (i >= n || is_set(skip)) return;
  const A scale = factor != nullptr ? static_cast<A>(*factor) : A(1);
  A velocity = scale * g[i] + static_cast<A>(options.weight_decay) * w[i];
  if (v != nullptr) v[i] = velocity = static_cast<A>(options.momentum) * v[i] + velocity;
  const A weight = w[i] - static_cast<A>(*lr) * velocity;
  w[i] = weight;
  if (low != nullptr) low[i] = __nv_bfloat16(static_cast<float>(weight));
}

__global__ void decay_of_step(const std::int64_t* step, EmaOptions options, double* decay) {
  if (threadIdx.x != 0) return;
  const double n = static_cast<double>(*step), grown = 1.0 - std::pow(n, -options.power);
  *decay = n < 1 ? 0.0 : grown < options.max_decay ? grown : options.max_decay;
}

template <class A>
__global__ void ema_elements(std::int64_t n, A* ema, const A* w, const double* decay,
                             const std::int32_t* skip) {
  const std::int64_t i = piece_of_thread();
  if (i >= n || is_set(skip)) return;
  ema[i] = averaged(*decay, ema[i], w[i]);
}

/// Calls f.template operator()<T>() with float or double.
template <class F>
void visit_master(DType dtype, F&& f) {
  return dtype == DType::f64 ? f.template operator()<double>() : f.template operator()<float>();
}

void square_sums(Context& ctx, const Tensor& g, const Tensor& sums) {
  visit_device(g.dtype(), "square_sums", [&]<class T>() {
    launch_warps(ctx, sums_of_stretches<T>, sums.numel(), g.numel(), device_data<T>(g), sums.data<double>());
  });
}

void clip_gradient(Context& ctx, const Tensor& sum_squares, double max_norm, const Tensor& norm,
                   const Tensor& factor, const Tensor& skip) {
  launch_warps(ctx, clip, 1, sum_squares.data<double>(), max_norm, norm.data<double>(), factor.data<double>(),
               skip.data<std::int32_t>());
}

void advance_step(Context& ctx, const Tensor& step, const Tensor& skip) {
  launch_warps(ctx, count_step, 1, step.data<std::int64_t>(), device_data<std::int32_t>(skip));
}

void adamw(Context& ctx, const AdamWBuffers& buffers, const AdamWScalars& scalars,
           const AdamWOptions& options, const Tensor& ema, const Tensor& decay) {
  visit_master(buffers.w.dtype(), [&]<class A>() {
    const Tensor bytes = ctx.empty(Shape{sizeof(AdamWFactors<A>)}, DType::u8);
    auto* const factors = reinterpret_cast<AdamWFactors<A>*>(bytes.raw());
    launch_warps(ctx, prepare_step<A>, 1, scalars.lr.data<double>(), device_data<double>(scalars.factor),
                 scalars.step.data<std::int64_t>(), options, factors);
    const std::int64_t n = buffers.w.numel();
    launch_threads(ctx, adamw_elements<A>, n, n, factors, device_data<std::int32_t>(scalars.skip),
                   device_data<double>(decay), buffers.w.data<A>(), buffers.g.data<A>(), buffers.m.data<A>(),
                   buffers.v.data<A>(), device_data<A>(ema), device_data<__nv_bfloat16>(buffers.low));
  });
}

void sgd(Context& ctx, const SgdBuffers& buffers, const SgdScalars& scalars, const SgdOptions& options) {
  visit_master(buffers.w.dtype(), [&]<class A>() {
    const std::int64_t n = buffers.w.numel();
    launch_threads(ctx, sgd_elements<A>, n, n, scalars.lr.data<double>(), device_data<double>(scalars.factor),
                   device_data<std::int32_t>(scalars.skip), options, buffers.w.data<A>(), buffers.g.data<A>(),
                   device_data<A>(buffers.v), device_data<__nv_bfloat16>(buffers.low));
  });
}

void ema_decay(Context& ctx, const Tensor& step, const EmaOptions& options, const Tensor& decay) {
  launch_warps(ctx, decay_of_step, 1, step.data<std::int64_t>(), options, decay.data<double>());
}

void ema_update(Context& ctx, const Tensor& ema, const Tensor& w, const Tensor& decay, const Tensor& skip) {
  visit_master(w.dtype(), [&]<class A>() {
    launch_threads(ctx, ema_elements<A>, w.numel(), w.numel(), ema.data<A>(), w.data<A>(),
                   decay.data<double>(), device_data<std::int32_t>(skip));
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

}  // namespace llsa::kernels::cuda

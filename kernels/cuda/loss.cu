// Losses, means over n elements or n rows:
//
//     mse             loss = sum (a - b)^2 / n;   da = 2 dloss (a - b) / n
//     cross entropy   loss = sum_r (ln sum_c e^x[r,c] - x[r,label]) / n
//                     dx = dloss (softmax(x) - one_hot(label)) / n
//
// A warp sums kStretch elements (mse) or one row (cross entropy) in the accumulator's type; these sums are added
// in f64 in a fixed order. Gradients: a thread per element (mse), a warp per row (cross entropy). A label out of
// range makes the loss and its gradient NaN, because the host does not wait to check it.
//
// Bytes per element in f32 (bf16): mse 8 (4), its gradient 12 (6); cross entropy 4 (2), its gradient 8 (4), in
// two and three passes over a row, of which the first reads memory and the others mostly caches. FLOPs per
// element: mse 3, its gradient 2 and, for the factor, a quotient in f64. Cross entropy needs 1 exponential, its
// gradient 2. Bound by memory where f64 runs at half the rate of f32; with the few rows of a batch by latency and
// launches.
#include "kernels/backend/training.h"

#include <cmath>
#include <limits>

#include "kernels/cuda/device/fold.cuh"
#include "kernels/cuda/device/softmax_row.cuh"

namespace llsa::kernels::cuda {
namespace {

constexpr std::int64_t kStretch = 2048;

template <class T>
__global__ void squared_distances(std::int64_t n, const T* a, const T* b, double* sums) {
  using A = accumulator_t<T>;
  const std::int64_t piece = piece_of_warp(), first = piece * kStretch;
  if (first >= n) return;
  const std::int64_t end = first + kStretch < n ? first + kStretch : n;
  A sum = 0;
  for (std::int64_t i = first + lane_of_thread(); i < end; i += 32) {
    const A d = static_cast<A>(a[i]) - static_cast<A>(b[i]);
    sum += d * d;
  }
  sum = warp_sum(sum);
  if (lane_of_thread() == 0) sums[piece] = static_cast<double>(sum);
}

/// da = 2 dloss (a - b) / n
template <class T, class A>
__global__ void distance_gradient(std::int64_t n, const A* dloss, const T* a, const T* b, T* da) {
  const std::int64_t i = piece_of_thread();
  if (i >= n) return;
  const A factor = static_cast<A>(2.0 * static_cast<double>(*dloss) / static_cast<double>(n));
  da[i] = static_cast<T>(factor * (static_cast<A>(a[i]) - static_cast<A>(b[i])));
}

template <class T>
__global__ void row_losses(std::int64_t rows, std::int64_t classes, const T* logits,
                           const std::int32_t* labels, double* sums) {
  using A = accumulator_t<T>;
  const std::int64_t r = piece_of_warp();
  if (r >= rows) return;
  const T* const row = logits + r * classes;
  const A all = log_sum_exp_row(row, classes);
  const std::int32_t label = labels[r];
  const A chosen =
      label >= 0 && label < classes ? static_cast<A>(row[label]) : std::numeric_limits<A>::quiet_NaN();
  if (lane_of_thread() == 0) sums[r] = static_cast<double>(all - chosen);
}

/// dlogits = dloss (softmax - one_hot(label)) / n
template <class T, class A>
__global__ void row_gradients(std::int64_t rows, std::int64_t classes, const A* dloss, const T* logits,
                              const std::int32_t* labels, T* dlogits) {
  const std::int64_t r = piece_of_warp();
  if (r >= rows) return;
  const T* const row = logits + r * classes;
  const std::int32_t label = labels[r];
  A factor = static_cast<A>(static_cast<double>(*dloss) / static_cast<double>(rows));
  if (label < 0 || label >= classes) factor = std::numeric_limits<A>::quiet_NaN();
  const A shift = log_sum_exp_row(row, classes);
  for (std::int64_t i = lane_of_thread(); i < classes; i += 32)
    dlogits[r * classes + i] =
        static_cast<T>(factor * (std::exp(static_cast<A>(row[i]) - shift) - (i == label ? A(1) : A(0))));
}

void mse(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& loss) {
  visit_device(a.dtype(), "mse", [&]<class T>() {
    const std::int64_t n = a.numel(), pieces = ceil_div(n, kStretch);
    const Tensor sums = ctx.empty(Shape{pieces}, DType::f64);
    launch_warps(ctx, squared_distances<T>, pieces, n, device_data<T>(a), device_data<T>(b),
                 sums.data<double>());
    fold_axis<FoldSum, double>(ctx, sums.data<double>(), 1, pieces, 1, static_cast<double>(n),
                               loss.data<accumulator_t<T>>());
  });
}

void mse_backward(Context& ctx, const Tensor& dloss, const Tensor& a, const Tensor& b, const Tensor& da) {
  visit_device(a.dtype(), "mse_backward", [&]<class T>() {
    using A = accumulator_t<T>;
    launch_threads(ctx, distance_gradient<T, A>, a.numel(), a.numel(), dloss.data<A>(), device_data<T>(a),
                   device_data<T>(b), device_data<T>(da));
  });
}

void cross_entropy(Context& ctx, const Tensor& logits, const Tensor& labels, const Tensor& loss) {
  visit_device(logits.dtype(), "cross_entropy", [&]<class T>() {
    const std::int64_t n = logits.size(0);
    const Tensor sums = ctx.empty(Shape{n}, DType::f64);
    launch_warps(ctx, row_losses<T>, n, n, logits.size(1), device_data<T>(logits),
                 labels.data<std::int32_t>(), sums.data<double>());
    fold_axis<FoldSum, double>(ctx, sums.data<double>(), 1, n, 1, static_cast<double>(n),
                               loss.data<accumulator_t<T>>());
  });
}

void cross_entropy_backward(Context& ctx, const Tensor& dloss, const Tensor& logits, const Tensor& labels,
                            const Tensor& dlogits) {
  visit_device(logits.dtype(), "cross_entropy_backward", [&]<class T>() {
    using A = accumulator_t<T>;
    const std::int64_t n = logits.size(0);
    launch_warps(ctx, row_gradients<T, A>, n, n, logits.size(1), dloss.data<A>(), device_data<T>(logits),
                 labels.data<std::int32_t>(), device_data<T>(dlogits));
  });
}

}  // namespace

constinit const LossBackend kLoss = {.mse = mse,
                                     .mse_backward = mse_backward,
                                     .cross_entropy = cross_entropy,
                                     .cross_entropy_backward = cross_entropy_backward};

}  // namespace llsa::kernels::cuda

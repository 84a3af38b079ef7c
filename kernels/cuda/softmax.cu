// Softmax and log-sum-exp over rows, with m the largest element of a row. A NaN anywhere in a row gives NaN.
//
//     y = e^(x - m) / sum e^(x - m),  dx = y (dy - sum dy y);   l = m + ln sum e^(x - m),  dx = dl e^(x - l)
//
// A warp per row, whose lanes take 32 neighbours at a time. Softmax and the gradient of l go over the row three
// times, the other two kernels twice; the first pass reads memory and the others mostly caches.
//
// Per element in f32 (bf16): softmax 8 (4) bytes and 2 exponentials; its gradient 12 (6) bytes and 4 FLOP; l 4 (2)
// bytes and 1 exponential; its gradient 8 (4) bytes and 2 exponentials. Bound by memory in f32. In bf16 the kernels
// with exponentials issue some 30 instructions for 4 bytes, which takes as long (device/launch.cuh). Few and long
// rows are bound by the latency of the loops.
#include "kernels/backend/layers.h"

#include "kernels/cuda/device/launch.cuh"
#include "kernels/cuda/device/softmax_row.cuh"
#include "kernels/cuda/device/types.cuh"

namespace llsa::kernels::cuda {
namespace {

template <class T>
__global__ void softmax_rows(std::int64_t rows, std::int64_t n, const T* x, T* y) {
  using A = accumulator_t<T>;
  const std::int64_t r = piece_of_warp();
  if (r >= rows) return;
  const T* const in = x + r * n;
  T* const out = y + r * n;
  const A m = row_max(in, n);
  A sum = 0;
  for (std::int64_t i = lane_of_thread(); i < n; i += 32) sum += std::exp(static_cast<A>(in[i]) - m);
  const A scale = A(1) / warp_sum(sum);
  for (std::int64_t i = lane_of_thread(); i < n; i += 32)
    out[i] = static_cast<T>(std::exp(static_cast<A>(in[i]) - m) * scale);
}

/// dx = y (dy - sum dy y)
template <class T>
__global__ void softmax_rows_backward(std::int64_t rows, std::int64_t n, const T* dy, const T* y, T* dx) {
  using A = accumulator_t<T>;
  const std::int64_t r = piece_of_warp();
  if (r >= rows) return;
  const T* const g = dy + r * n;
  const T* const p = y + r * n;
  T* const out = dx + r * n;
  A dot = 0;
  for (std::int64_t i = lane_of_thread(); i < n; i += 32) dot += static_cast<A>(g[i]) * static_cast<A>(p[i]);
  dot = warp_sum(dot);
  for (std::int64_t i = lane_of_thread(); i < n; i += 32)
    out[i] = static_cast<T>(static_cast<A>(p[i]) * (static_cast<A>(g[i]) - dot));
}

template <class T>
__global__ void log_sum_exp_rows(std::int64_t rows, std::int64_t n, const T* x, T* l) {
  const std::int64_t r = piece_of_warp();
  if (r >= rows) return;
  const accumulator_t<T> value = log_sum_exp_row(x + r * n, n);
  if (lane_of_thread() == 0) l[r] = static_cast<T>(value);
}

/// dx = dl e^(x - l). The sum is computed again, because a stored bf16 value of l is too coarse to subtract. A
/// row that holds only -infinity has no gradient.
template <class T>
__global__ void log_sum_exp_rows_backward(std::int64_t rows, std::int64_t n, const T* dl, const T* x, T* dx) {
  using A = accumulator_t<T>;
  const std::int64_t r = piece_of_warp();
  if (r >= rows) return;
  const T* const in = x + r * n;
  const A g = static_cast<A>(dl[r]);
  const A value = log_sum_exp_row(in, n);
  const A shift = value == -std::numeric_limits<A>::infinity() ? A(0) : value;
  for (std::int64_t i = lane_of_thread(); i < n; i += 32)
    dx[r * n + i] = static_cast<T>(g * std::exp(static_cast<A>(in[i]) - shift));
}

std::int64_t row_count(const Tensor& x) { return x.size(-1) == 0 ? 0 : x.numel() / x.size(-1); }

void softmax(Context& ctx, const Tensor& x, const Tensor& y) {
  visit_device(x.dtype(), "softmax", [&]<class T>() {
    launch_warps(ctx, softmax_rows<T>, row_count(x), row_count(x), x.size(-1), device_data<T>(x),
                 device_data<T>(y));
  });
}

void softmax_backward(Context& ctx, const Tensor& dy, const Tensor& y, const Tensor& dx) {
  visit_device(y.dtype(), "softmax_backward", [&]<class T>() {
    launch_warps(ctx, softmax_rows_backward<T>, row_count(y), row_count(y), y.size(-1), device_data<T>(dy),
                 device_data<T>(y), device_data<T>(dx));
  });
}

void log_sum_exp(Context& ctx, const Tensor& x, const Tensor& l) {
  visit_device(x.dtype(), "log_sum_exp", [&]<class T>() {
    launch_warps(ctx, log_sum_exp_rows<T>, l.numel(), l.numel(), x.size(-1), device_data<T>(x),
                 device_data<T>(l));
  });
}

void log_sum_exp_backward(Context& ctx, const Tensor& dl, const Tensor& x, const Tensor&, const Tensor& dx) {
  visit_device(x.dtype(), "log_sum_exp_backward", [&]<class T>() {
    launch_warps(ctx, log_sum_exp_rows_backward<T>, row_count(x), row_count(x), x.size(-1),
                 device_data<T>(dl), device_data<T>(x), device_data<T>(dx));
  });
}

}  // namespace

constinit const SoftmaxBackend kSoftmax = {.softmax = softmax,
                                           .softmax_backward = softmax_backward,
                                           .log_sum_exp = log_sum_exp,
                                           .log_sum_exp_backward = log_sum_exp_backward};

}  // namespace llsa::kernels::cuda

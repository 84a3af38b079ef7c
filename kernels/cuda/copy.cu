// Copies between any strides and dtypes on one device, y[i] = convert(x[i]), and fill, y[i] = value.
//
// Where both sides are dense, a thread takes 16 bytes of the wider side. Otherwise, and in fill, a thread takes
// one element. Threads are numbered in the order of dst in memory, so that writes are coalesced; finding the
// source takes a division for each axis but one.
//
// Bytes per element: one read and one write (8 from f32 to f32, 6 between f32 and bf16, 4 in bf16), in fill the
// write alone. No FLOPs beyond the conversion. Bound by memory; where src is strided, by the number of 32-byte
// sectors that are read, at worst one per element.
#include "kernels/backend/tensors.h"

#include "kernels/convert.h"
#include "kernels/cuda/device/launch.cuh"
#include "kernels/cuda/device/strided.cuh"
#include "kernels/cuda/device/types.cuh"

namespace llsa::kernels::cuda {
namespace {

template <class D, class S>
__global__ void copy_strided(Strided<2> loop, const S* src, D* dst) {
  const std::int64_t i = piece_of_thread();
  if (i >= loop.count) return;
  const auto at = loop.offsets(i);
  dst[at.of[0]] = convert<D, __nv_bfloat16>(src[at.of[1]]);
}

/// N elements per thread; the last thread takes what is left one by one.
template <int N, class D, class S>
__global__ void copy_dense(std::int64_t n, const S* src, D* dst) {
  const std::int64_t i = piece_of_thread() * N;
  if (i >= n) return;
  if (i + N > n) {
    for (std::int64_t j = i; j < n; ++j) dst[j] = convert<D, __nv_bfloat16>(src[j]);
    return;
  }
  const Pack<S, N> from = load_pack<N>(src + i);
  Pack<D, N> to;
  for (int j = 0; j < N; ++j) to.value[j] = convert<D, __nv_bfloat16>(from.value[j]);
  store_pack(dst + i, to);
}

template <class D>
__global__ void fill_strided(Strided<1> loop, double value, D* dst) {
  const std::int64_t i = piece_of_thread();
  if (i < loop.count) dst[loop.offsets(i).of[0]] = convert<D, __nv_bfloat16>(value);
}

template <class F>
void visit_any_device(DType dtype, F&& f) {
  visit_any(dtype, [&]<class T>() {
    if constexpr (std::is_same_v<T, bf16>)
      f.template operator()<__nv_bfloat16>();
    else
      f.template operator()<T>();
  });
}

void copy(Context& ctx, const Tensor& src, const Tensor& dst) {
  const Strided<2> loop(dst.shape(), {&dst, &src});
  visit_any_device(dst.dtype(), [&]<class D>() {
    visit_any_device(src.dtype(), [&]<class S>() {
      constexpr int kWide = sizeof(D) > sizeof(S) ? kPack<D> : kPack<S>;
      const S* const from = device_data<S>(src);
      D* const to = device_data<D>(dst);
      if (loop.dense() && packable(16, from, to))
        launch_threads(ctx, copy_dense<kWide, D, S>, ceil_div(loop.count, kWide), loop.count, from, to);
      else
        launch_threads(ctx, copy_strided<D, S>, loop.count, loop, from, to);
    });
  });
}

void fill(Context& ctx, const Tensor& dst, double value) {
  const Strided<1> loop(dst.shape(), {&dst});
  visit_any_device(dst.dtype(), [&]<class D>() {
    launch_threads(ctx, fill_strided<D>, loop.count, loop, value, device_data<D>(dst));
  });
}

}  // namespace

constinit const CopyBackend kCopy = {.copy = copy, .fill = fill};

}  // namespace llsa::kernels::cuda

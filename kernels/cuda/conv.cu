// im2col: a thread per element of the patches. col2im: a thread per element of dx, which collects what the
// positions of this group gave it, in the order of positions, so that no two threads add into one place.
#include "kernels/cuda/conv.h"

#include "kernels/cuda/device/launch.cuh"
#include "kernels/cuda/device/types.cuh"

namespace llsa::kernels::cuda {
namespace {

/// ConvGeometry as kernels take it.
struct Geometry {
  std::int64_t channels, height, width, kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w, out_h,
      out_w;

  explicit Geometry(const ConvGeometry& g)
      : channels(g.channels),
        height(g.height),
        width(g.width),
        kernel_h(g.kernel[0]),
        kernel_w(g.kernel[1]),
        stride_h(g.stride[0]),
        stride_w(g.stride[1]),
        padding_h(g.padding[0]),
        padding_w(g.padding[1]),
        out_h(g.out_height),
        out_w(g.out_width) {}
};

template <class T>
__global__ void collect_patches(Geometry g, std::int64_t first, std::int64_t count, const T* x, T* cols) {
  const std::int64_t patch = g.channels * g.kernel_h * g.kernel_w;
  const std::int64_t i = piece_of_thread();
  if (i >= count * patch) return;
  const std::int64_t position = first + i / patch;
  const std::int64_t kx = i % patch % g.kernel_w;
  const std::int64_t ky = i % patch / g.kernel_w % g.kernel_h;
  const std::int64_t channel = i % patch / g.kernel_w / g.kernel_h;
  const std::int64_t image = position / (g.out_h * g.out_w);
  const std::int64_t y = position / g.out_w % g.out_h * g.stride_h - g.padding_h + ky;
  const std::int64_t column = position % g.out_w * g.stride_w - g.padding_w + kx;
  const bool inside = y >= 0 && y < g.height && column >= 0 && column < g.width;
  cols[i] = inside ? x[((image * g.channels + channel) * g.height + y) * g.width + column] : T(0.0f);
}

/// The output positions along one axis whose patches cover input position `at` lie in [begin, end).
struct Cover {
  std::int64_t begin, end;
  __device__ Cover(std::int64_t at, std::int64_t kernel, std::int64_t stride, std::int64_t padding,
                   std::int64_t out) {
    const std::int64_t low = at + padding - kernel + 1;  // the smallest corner that still reaches it
    begin = low <= 0 ? 0 : (low + stride - 1) / stride;
    end = (at + padding) / stride + 1;
    if (end > out) end = out;
  }
};

template <class T, class A>
__global__ void return_patches(Geometry g, std::int64_t elements, std::int64_t first, std::int64_t count,
                               const T* cols, A* dx) {
  const std::int64_t i = piece_of_thread();
  if (i >= elements) return;
  const std::int64_t column = i % g.width, y = i / g.width % g.height;
  const std::int64_t channel = i / g.width / g.height % g.channels;
  const std::int64_t image = i / g.width / g.height / g.channels;
  const std::int64_t area = g.kernel_h * g.kernel_w, patch = g.channels * area;
  const Cover rows(y, g.kernel_h, g.stride_h, g.padding_h, g.out_h);
  const Cover columns(column, g.kernel_w, g.stride_w, g.padding_w, g.out_w);
  A sum = dx[i];
  for (std::int64_t oy = rows.begin; oy < rows.end; ++oy) {
    for (std::int64_t ox = columns.begin; ox < columns.end; ++ox) {
      const std::int64_t row = (image * g.out_h + oy) * g.out_w + ox - first;
      if (row < 0 || row >= count) continue;
      const std::int64_t ky = y + g.padding_h - oy * g.stride_h, kx = column + g.padding_w - ox * g.stride_w;
      sum += static_cast<A>(cols[row * patch + channel * area + ky * g.kernel_w + kx]);
    }
  }
  dx[i] = sum;
}

}  // namespace

void im2col(Context& ctx, const ConvGeometry& geometry, const Tensor& x, std::int64_t first,
            const Tensor& cols) {
  visit_device(x.dtype(), "im2col", [&]<class T>() {
    launch_threads(ctx, collect_patches<T>, cols.numel(), Geometry(geometry), first, cols.size(0),
                   device_data<T>(x), device_data<T>(cols));
  });
}

void col2im(Context& ctx, const ConvGeometry& geometry, const Tensor& cols, std::int64_t first,
            const Tensor& dx) {
  visit_device(cols.dtype(), "col2im", [&]<class T>() {
    using A = accumulator_t<T>;
    launch_threads(ctx, return_patches<T, A>, dx.numel(), Geometry(geometry), dx.numel(), first, cols.size(0),
                   device_data<T>(cols), dx.data<A>());
  });
}

}  // namespace llsa::kernels::cuda

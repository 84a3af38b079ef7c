// im2col and col2im, the two halves of a convolution around a matrix product, in f32 and f64.
//
//     cols[n,(c,i,j),(p,q)] = x[n,c, p s + i - pad, q s + j - pad], 0 outside x; one more line of ones (bias)
//     dx[n,c,y,x] += the sum of all cols[n,(c,i,j),(p,q)] that were copied from there
//
// im2col: a thread per element of cols, neighbouring threads along q. col2im: a thread per element of dx, which
// sums the positions of the slice in their order, so no two threads add to one element.
//
// Bytes in f32: im2col writes 4 per element of cols; it reads x from memory about once, and its kh kw / (sh sw)
// uses of each element from L1 and L2. col2im reads cols once and moves 8 per element of dx. FLOPs: col2im adds
// once per element of cols. im2col is bound by issuing instructions: it needs eight quotients and remainders of
// 64-bit numbers per element, more than 4 to 8 bytes of memory traffic hide (device/launch.cuh). col2im needs
// six per element of dx and is bound in the same way, or by memory where the kernel positions overlap much.
#include "kernels/backend/layers.h"

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

/// Element i of cols [images, lines, rows out_w].
template <class T>
__global__ void collect_patches(Geometry g, ConvSlice slice, std::int64_t lines, std::int64_t count,
                                const T* x, T* cols) {
  const std::int64_t i = piece_of_thread();
  if (i >= count) return;
  const std::int64_t length = slice.rows * g.out_w, area = g.kernel_h * g.kernel_w;
  const std::int64_t position = i % length, line = i / length % lines;
  const std::int64_t channel = line / area;
  if (channel == g.channels) {  // the line of ones
    cols[i] = T(1.0f);
    return;
  }
  const std::int64_t image = slice.image + i / length / lines;
  const std::int64_t ky = line % area / g.kernel_w, kx = line % g.kernel_w;
  const std::int64_t y = (slice.row + position / g.out_w) * g.stride_h - g.padding_h + ky;
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

/// dx points at the first image of the slice.
template <class T>
__global__ void return_patches(Geometry g, ConvSlice slice, std::int64_t count, const T* cols, T* dx) {
  const std::int64_t i = piece_of_thread();
  if (i >= count) return;
  const std::int64_t column = i % g.width, y = i / g.width % g.height;
  const std::int64_t plane = i / g.width / g.height;  // (image, channel)
  const std::int64_t area = g.kernel_h * g.kernel_w, length = slice.rows * g.out_w;
  const Cover rows(y, g.kernel_h, g.stride_h, g.padding_h, g.out_h);
  const Cover columns(column, g.kernel_w, g.stride_w, g.padding_w, g.out_w);
  T sum = dx[i];
  for (std::int64_t oy = rows.begin; oy < rows.end; ++oy) {
    if (oy < slice.row || oy >= slice.row + slice.rows) continue;
    const std::int64_t ky = y + g.padding_h - oy * g.stride_h;
    for (std::int64_t ox = columns.begin; ox < columns.end; ++ox) {
      const std::int64_t kx = column + g.padding_w - ox * g.stride_w;
      const std::int64_t line = plane * area + ky * g.kernel_w + kx;
      sum = sum + cols[line * length + (oy - slice.row) * g.out_w + ox];
    }
  }
  dx[i] = sum;
}

/// The contract promises f32 or f64.
template <class F>
void visit_sums(DType dtype, F&& f) {
  dtype == DType::f64 ? f.template operator()<double>() : f.template operator()<float>();
}

void im2col(Context& ctx, const ConvGeometry& geometry, const ConvSlice& slice, const Tensor& x,
            const Tensor& cols) {
  visit_sums(x.dtype(), [&]<class T>() {
    launch_threads(ctx, collect_patches<T>, cols.numel(), Geometry(geometry), slice, cols.size(1),
                   cols.numel(), device_data<T>(x), device_data<T>(cols));
  });
}

void col2im(Context& ctx, const ConvGeometry& geometry, const ConvSlice& slice, const Tensor& cols,
            const Tensor& dx) {
  const std::int64_t image = geometry.channels * geometry.height * geometry.width;
  const std::int64_t count = slice.images * image;
  visit_sums(cols.dtype(), [&]<class T>() {
    launch_threads(ctx, return_patches<T>, count, Geometry(geometry), slice, count, device_data<T>(cols),
                   device_data<T>(dx) + slice.image * image);
  });
}

}  // namespace

constinit const ConvBackend kConv = {.im2col = im2col, .col2im = col2im};

}  // namespace llsa::kernels::cuda

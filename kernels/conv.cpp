// Convolution. Where the backend has a library for convolutions, the library is asked first. Otherwise im2col and one
// matrix product per image compute it: y[o, positions] = w[o, patch] cols[patch, positions]. The bias is one more
// column of w, over a line of ones in cols. The output is computed in slices, which bounds the memory of cols. bf16 is
// computed in f32.
#include "kernels/conv.h"

#include <algorithm>
#include <vector>

#include "kernels/backend.h"
#include "kernels/check.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/matmul.h"
#include "kernels/reduce.h"

namespace llsa::kernels {
namespace {

constexpr std::int64_t kSliceElements = std::int64_t{1} << 20;  // of cols

DType sum_type(const Tensor& x) { return x.dtype() == DType::bf16 ? DType::f32 : x.dtype(); }

void check_conv(Context& ctx, const Tensor& x, const Tensor& w, const Tensor& bias,
                std::array<std::int64_t, 2> stride, std::array<std::int64_t, 2> padding) {
  const char* op = "conv2d";
  check::on_device(ctx, op, {{"x", x}, {"w", w}});
  check::floating(op, {"x", x});
  check::same_dtype(op, {"x", x}, {"w", w});
  if (x.rank() != 4 || w.rank() != 4 || x.size(1) != w.size(1)) {
    throw ShapeError(
        cat("[", op, "] expected x[b,c,h,w] and w[o,c,kh,kw], got x ", x.shape(), " and w ", w.shape()));
  }
  for (int i = 0; i < 2; ++i) {
    const auto at = static_cast<std::size_t>(i);
    constexpr std::int64_t kLimit = std::int64_t{1} << 31;
    if (stride[at] < 1 || stride[at] > kLimit || padding[at] < 0 || padding[at] > kLimit) {
      throw ValueError(cat("[", op,
                           "] expected a stride of 1 to 2^31 and a padding of 0 to 2^31, got stride ",
                           stride[at], " and padding ", padding[at]));
    }
    if (w.size(2 + i) < 1 || x.size(2 + i) + 2 * padding[at] < w.size(2 + i)) {
      throw ShapeError(cat("[", op, "] kernel ", w.shape(), " does not fit into x ", x.shape(),
                           " with padding ", padding[0], " and ", padding[1]));
    }
  }
  if (!bias.defined()) return;
  check::on_device(ctx, op, {{"bias", bias}});
  check::same_dtype(op, {"x", x}, {"bias", bias});
  check::shape(op, {"bias", bias}, Shape{w.size(0)});
}

ConvGeometry geometry_of(const Tensor& x, const Tensor& w, std::array<std::int64_t, 2> stride,
                         std::array<std::int64_t, 2> padding) {
  return {.batch = x.size(0),
          .channels = x.size(1),
          .height = x.size(2),
          .width = x.size(3),
          .kernel = {w.size(2), w.size(3)},
          .stride = stride,
          .padding = padding,
          .out_height = (x.size(2) + 2 * padding[0] - w.size(2)) / stride[0] + 1,
          .out_width = (x.size(3) + 2 * padding[1] - w.size(3)) / stride[1] + 1};
}

/// Cuts the output into slices: several whole images, or some rows of one.
std::vector<ConvSlice> slices_of(const ConvGeometry& g) {
  const std::int64_t row = std::max<std::int64_t>(1, g.patch() * g.out_width);
  const std::int64_t rows = std::clamp<std::int64_t>(kSliceElements / row, 1, g.out_height);
  const std::int64_t images =
      rows < g.out_height ? 1 : std::max<std::int64_t>(1, kSliceElements / (row * g.out_height));
  std::vector<ConvSlice> slices;
  for (std::int64_t image = 0; image < g.batch; image += images)
    for (std::int64_t first = 0; first < g.out_height; first += rows)
      slices.push_back(
          {image, std::min(images, g.batch - image), first, std::min(rows, g.out_height - first)});
  return slices;
}

/// The slice of a tensor [b,o,out_h,out_w] as a view.
Tensor view_of(const Tensor& y, const ConvSlice& slice) {
  return y.slice(0, slice.image, slice.image + slice.images).slice(2, slice.row, slice.row + slice.rows);
}

/// A gradient by the library; undefined where there is none or it declines.
Tensor library_gradient(Context& ctx, decltype(ConvLibrary::conv2d_dx) library, const ConvGeometry& g,
                        const Tensor& dy, const Tensor& operand, const Shape& shape) {
  if (library == nullptr) return {};
  const Tensor grad = ctx.empty(shape, dy.dtype());
  return library(ctx, g, contiguous(ctx, dy), contiguous(ctx, operand), grad, "conv2d_backward") ? grad
                                                                                                 : Tensor();
}

}  // namespace

Tensor conv2d(Context& ctx, const Tensor& x, const Tensor& w, const Tensor& bias,
              std::array<std::int64_t, 2> stride, std::array<std::int64_t, 2> padding) {
  check_conv(ctx, x, w, bias, stride, padding);
  const ConvGeometry g = geometry_of(x, w, stride, padding);
  const std::int64_t outputs = w.size(0);
  const Shape shape{g.batch, outputs, g.out_height, g.out_width};
  if (const auto library = backend(ctx).conv_library.conv2d; library != nullptr) {
    const Tensor y = ctx.empty(shape, x.dtype());
    const Tensor offset = bias.defined() ? contiguous(ctx, bias) : Tensor();
    if (library(ctx, g, contiguous(ctx, x), contiguous(ctx, w), offset, y)) return y;
  }
  const DType dtype = sum_type(x);
  const Tensor y = ctx.empty(shape, dtype);
  if (y.numel() == 0) return cast(ctx, y, x.dtype());
  const Tensor input = contiguous(ctx, cast(ctx, x, dtype));
  Tensor kernels = contiguous(ctx, cast(ctx, w, dtype)).reshape({outputs, g.patch()});
  if (bias.defined()) kernels = concat(ctx, {kernels, cast(ctx, bias, dtype).reshape({outputs, 1})}, 1);
  for (const ConvSlice& slice : slices_of(g)) {
    const Tensor cols = ctx.empty(Shape{slice.images, kernels.size(1), slice.rows * g.out_width}, dtype);
    backend(ctx).conv.im2col(ctx, g, slice, input, cols);
    const Tensor part = view_of(y, slice);
    copy(ctx, matmul(ctx, kernels, cols).reshape(part.shape()), part);
  }
  return cast(ctx, y, x.dtype());
}

ConvGrads conv2d_backward(Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& w,
                          std::array<std::int64_t, 2> stride, std::array<std::int64_t, 2> padding,
                          bool need_dx, bool need_dw, bool need_db) {
  const ConvGeometry g = geometry_of(x, w, stride, padding);
  const std::int64_t outputs = w.size(0);
  ConvGrads grads;
  if (need_db) grads.db = sum(ctx, dy, {0, 2, 3});
  if (dy.numel() == 0) {
    if (need_dx) grads.dx = ctx.zeros(x.shape(), x.dtype());
    if (need_dw) grads.dw = ctx.zeros(w.shape(), w.dtype());
    return grads;
  }
  if (need_dx) {
    grads.dx = library_gradient(ctx, backend(ctx).conv_library.conv2d_dx, g, dy, w, x.shape());
    need_dx = !grads.dx.defined();
  }
  if (need_dw) {
    grads.dw = library_gradient(ctx, backend(ctx).conv_library.conv2d_dw, g, dy, x, w.shape());
    need_dw = !grads.dw.defined();
  }
  if (!need_dx && !need_dw) return grads;

  const DType dtype = sum_type(x);
  const Tensor grad = contiguous(ctx, cast(ctx, dy, dtype));
  const Tensor input = contiguous(ctx, cast(ctx, x, dtype));
  const Tensor kernels = contiguous(ctx, cast(ctx, w, dtype)).reshape({outputs, g.patch()});
  const Tensor turned = contiguous(ctx, kernels.transpose(0, 1));
  Tensor dx, dw;
  if (need_dx) dx = ctx.zeros(x.shape(), dtype);
  if (need_dw) dw = ctx.zeros(Shape{outputs, g.patch()}, dtype);
  for (const ConvSlice& slice : slices_of(g)) {
    const std::int64_t length = slice.rows * g.out_width;
    const Tensor part = contiguous(ctx, view_of(grad, slice)).reshape({slice.images, outputs, length});
    if (need_dw) {
      const Tensor cols = ctx.empty(Shape{slice.images, g.patch(), length}, dtype);
      backend(ctx).conv.im2col(ctx, g, slice, input, cols);
      accumulate(ctx, sum(ctx, matmul(ctx, part, cols, false, true), {0}), dw);
    }
    if (need_dx) backend(ctx).conv.col2im(ctx, g, slice, matmul(ctx, turned, part), dx);
  }
  if (need_dx) grads.dx = cast(ctx, dx, x.dtype());
  if (need_dw) grads.dw = cast(ctx, dw, x.dtype()).reshape(w.shape());
  return grads;
}

}  // namespace llsa::kernels

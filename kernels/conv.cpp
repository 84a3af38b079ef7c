// Convolution = im2col, then the matrix product of all output positions with the kernels. Positions are taken
// in groups that bound the memory of the patches.
#include "kernels/conv.h"

#include <algorithm>

#include "kernels/backend.h"
#include "kernels/check.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/matmul.h"

namespace llsa::kernels {
namespace {

constexpr std::int64_t kPatchElements = std::int64_t{1} << 21;  // of one group

ConvGeometry check_conv(Context& ctx, const char* where, const Tensor& x, const Tensor& w,
                        std::array<std::int64_t, 2> stride, std::array<std::int64_t, 2> padding) {
  check_device(ctx, where, {&x, &w});
  check_floating(where, x);
  check_same_dtype(where, x, w);
  if (x.rank() != 4 || w.rank() != 4 || x.size(1) != w.size(1)) {
    throw ShapeError(
        cat("[", where, "] expected x[b,c,h,w] and w[o,c,kh,kw], got x ", x.shape(), " and w ", w.shape()));
  }
  ConvGeometry g{.batch = x.size(0),
                 .channels = x.size(1),
                 .height = x.size(2),
                 .width = x.size(3),
                 .kernel = {w.size(2), w.size(3)},
                 .stride = stride,
                 .padding = padding};
  std::array<std::int64_t, 2> out{};
  for (int i = 0; i < 2; ++i) {
    const auto at = static_cast<std::size_t>(i);
    constexpr std::int64_t kLimit = std::int64_t{1} << 31;
    if (stride[at] < 1 || padding[at] < 0 || padding[at] > kLimit) {
      throw ValueError(cat("[", where, "] expected stride >= 1 and padding >= 0, got stride ", stride[at],
                           " and padding ", padding[at]));
    }
    const std::int64_t room = x.size(2 + i) + 2 * padding[at] - g.kernel[at];
    if (g.kernel[at] < 1 || room < 0) {
      throw ShapeError(cat("[", where, "] kernel ", w.shape(), " does not fit into x ", x.shape(),
                           " with padding ", padding[0], " and ", padding[1]));
    }
    out[at] = room / stride[at] + 1;
  }
  g.out_height = out[0];
  g.out_width = out[1];
  return g;
}

/// Output positions per group: a multiple of the panels of the product.
std::int64_t group_size(const ConvGeometry& g) {
  return std::max<std::int64_t>(1, kPatchElements / std::max<std::int64_t>(g.patch(), 1) / 256) * 256;
}

}  // namespace

Tensor conv2d(Context& ctx, const Tensor& x, const Tensor& w, const Tensor& bias,
              std::array<std::int64_t, 2> stride, std::array<std::int64_t, 2> padding) {
  const ConvGeometry g = check_conv(ctx, "conv2d", x, w, stride, padding);
  const std::int64_t outputs = w.size(0), positions = g.positions(), patch = g.patch();
  if (bias.defined()) {
    check_device(ctx, "conv2d", {&bias});
    check_same_dtype("conv2d", x, bias);
    check_shape("conv2d", "bias", bias, Shape{outputs});
  }
  Tensor y = ctx.empty(Shape{g.batch, outputs, g.out_height, g.out_width}, x.dtype());
  if (y.numel() == 0) return y;
  const Tensor input = contiguous(ctx, x);
  const Tensor kernels = contiguous(ctx, w).reshape({outputs, patch});
  const Tensor rows = ctx.empty(Shape{positions, outputs}, x.dtype());
  const std::int64_t group = std::min(group_size(g), positions);
  const Tensor cols = ctx.empty(Shape{group, patch}, x.dtype());
  for (std::int64_t first = 0; first < positions; first += group) {
    const std::int64_t count = std::min(group, positions - first);
    const Tensor part = cols.slice(0, 0, count);
    backend(ctx).conv.im2col(ctx, g, input, first, part);
    backend(ctx).matmul.linear(ctx, part, kernels, bias, rows.slice(0, first, first + count), {});
  }
  copy(ctx, rows.reshape({g.batch, g.out_height, g.out_width, outputs}).permute({0, 3, 1, 2}), y);
  return y;
}

ConvGrads conv2d_backward(Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& w,
                          std::array<std::int64_t, 2> stride, std::array<std::int64_t, 2> padding,
                          bool need_dx, bool need_dw, bool need_db) {
  const ConvGeometry g = check_conv(ctx, "conv2d_backward", x, w, stride, padding);
  const std::int64_t outputs = w.size(0), positions = g.positions(), patch = g.patch();
  check_device(ctx, "conv2d_backward", {&dy});
  check_same_dtype("conv2d_backward", x, dy);
  check_shape("conv2d_backward", "dy", dy, Shape{g.batch, outputs, g.out_height, g.out_width});
  const DType sum_type = x.dtype() == DType::bf16 ? DType::f32 : x.dtype();
  const Tensor input = contiguous(ctx, x);
  const Tensor kernels = contiguous(ctx, w).reshape({outputs, patch});
  const Tensor rows = contiguous(ctx, dy.permute({0, 2, 3, 1})).reshape({positions, outputs});
  ConvGrads sums;
  if (need_dx) sums.dx = ctx.zeros(x.shape(), sum_type);
  if (need_dw) sums.dw = ctx.zeros(w.shape(), sum_type);
  if (need_db) sums.db = ctx.zeros(Shape{outputs}, sum_type);
  const std::int64_t group = std::max<std::int64_t>(1, std::min(group_size(g), positions));
  const Tensor cols = ctx.empty(Shape{group, patch}, x.dtype());
  for (std::int64_t first = 0; first < positions; first += group) {
    const std::int64_t count = std::min(group, positions - first);
    const Tensor part = cols.slice(0, 0, count);
    if (need_dw) backend(ctx).conv.im2col(ctx, g, input, first, part);
    const LinearGrads grads =
        linear_backward(ctx, rows.slice(0, first, first + count), part, kernels, need_dx, need_dw, need_db);
    if (need_dx) backend(ctx).conv.col2im(ctx, g, grads.dx, first, sums.dx);
    if (need_dw) accumulate(ctx, cast(ctx, grads.dw, sum_type).reshape(w.shape()), sums.dw);
    if (need_db) accumulate(ctx, cast(ctx, grads.db, sum_type), sums.db);
  }
  const auto finished = [&](const Tensor& sum) { return sum.defined() ? cast(ctx, sum, x.dtype()) : sum; };
  return {finished(sums.dx), finished(sums.dw), finished(sums.db)};
}

}  // namespace llsa::kernels

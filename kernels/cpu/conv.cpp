// im2col and col2im on the CPU, one line of the output at a time. With stride 1 a line of cols is a shifted line of
// the image.
#include "kernels/backend/layers.h"

#include <algorithm>

#include "kernels/cpu/strided.h"

namespace llsa::kernels::cpu {
namespace {

/// Output columns [begin, end) whose kernel column j lies inside the input; q reads input column q stride +
/// shift.
struct Span {
  std::int64_t begin, end, shift;

  Span(const ConvGeometry& g, std::int64_t j) {
    const std::int64_t step = g.stride[1];
    shift = j - g.padding[1];
    begin = std::min(g.out_width, shift >= 0 ? 0 : (-shift + step - 1) / step);
    end = g.width > shift ? std::min(g.out_width, (g.width - 1 - shift) / step + 1) : 0;
    end = std::max(begin, end);
  }
};

void im2col(Context& ctx, const ConvGeometry& g, const ConvSlice& slice, const Tensor& x,
            const Tensor& cols) {
  visit_floating(x.dtype(), "im2col", [&]<class T>() {
    const T* const in = x.data<T>();
    T* const out = cols.data<T>();
    const std::int64_t lines = cols.size(1), length = cols.size(2), area = g.kernel[0] * g.kernel[1];
    const std::int64_t step = g.stride[1];
    ctx.pool().parallel_ranges(
        slice.images * lines, std::max<std::int64_t>(1, kElementGrain / length),
        [&](std::int64_t first, std::int64_t last) {
          for (std::int64_t index = first; index < last; ++index) {
            const std::int64_t line = index % lines, image = slice.image + index / lines;
            T* to = out + index * length;
            if (line == g.patch()) {
              std::fill_n(to, length, T(1));
              continue;
            }
            const std::int64_t i = line % area / g.kernel[1];
            const T* const plane = in + (image * g.channels + line / area) * g.height * g.width;
            const Span span(g, line % g.kernel[1]);
            for (std::int64_t p = slice.row; p < slice.row + slice.rows; ++p, to += g.out_width) {
              const std::int64_t y = p * g.stride[0] + i - g.padding[0];
              if (y < 0 || y >= g.height || span.begin == span.end) {
                std::fill_n(to, g.out_width, T(0));
                continue;
              }
              const T* const from = plane + y * g.width;
              std::fill(to, to + span.begin, T(0));
              if (step == 1)
                std::copy(from + span.begin + span.shift, from + span.end + span.shift, to + span.begin);
              else
                for (std::int64_t q = span.begin; q < span.end; ++q) to[q] = from[q * step + span.shift];
              std::fill(to + span.end, to + g.out_width, T(0));
            }
          }
        });
  });
}

void col2im(Context& ctx, const ConvGeometry& g, const ConvSlice& slice, const Tensor& cols,
            const Tensor& dx) {
  visit_floating(cols.dtype(), "col2im", [&]<class T>() {
    const T* const in = cols.data<T>();
    T* const out = dx.data<T>();
    const std::int64_t length = cols.size(2), area = g.kernel[0] * g.kernel[1], step = g.stride[1];
    // A piece of work owns one plane of dx and adds the kernel elements in order.
    ctx.pool().parallel_for(slice.images * g.channels, [&](std::int64_t index) {
      T* const plane = out + (slice.image * g.channels + index) * g.height * g.width;
      for (std::int64_t element = 0; element < area; ++element) {
        const Span span(g, element % g.kernel[1]);
        const T* from = in + (index * area + element) * length;
        for (std::int64_t p = slice.row; p < slice.row + slice.rows; ++p, from += g.out_width) {
          const std::int64_t y = p * g.stride[0] + element / g.kernel[1] - g.padding[0];
          if (y < 0 || y >= g.height || span.begin == span.end) continue;
          T* const to = plane + y * g.width;
          for (std::int64_t q = span.begin; q < span.end; ++q) {
            const std::int64_t at = q * step + span.shift;
            to[at] = to[at] + from[q];
          }
        }
      }
    });
  });
}

}  // namespace

constinit const ConvBackend kConv = {.im2col = im2col, .col2im = col2im};

}  // namespace llsa::kernels::cpu

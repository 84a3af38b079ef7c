// im2col and col2im by plain loops: a row of cols per output position.
#include "kernels/cpu/conv.h"

#include <algorithm>

#include "kernels/cpu/strided.h"

namespace llsa::kernels::cpu {
namespace {

/// Upper left corner, in the input, of the patch at an output position.
struct Corner {
  std::int64_t image, y, x;

  Corner(const ConvGeometry& g, std::int64_t position) {
    image = position / (g.out_height * g.out_width);
    y = position / g.out_width % g.out_height * g.stride[0] - g.padding[0];
    x = position % g.out_width * g.stride[1] - g.padding[1];
  }
};

}  // namespace

void im2col(Context& ctx, const ConvGeometry& g, const Tensor& x, std::int64_t first, const Tensor& cols) {
  visit_floating(x.dtype(), "im2col", [&]<class T>() {
    const T* const in = x.data<T>();
    T* const out = cols.data<T>();
    const std::int64_t patch = g.patch();
    const std::int64_t grain = std::max<std::int64_t>(1, kElementGrain / std::max<std::int64_t>(patch, 1));
    ctx.pool().parallel_ranges(cols.size(0), grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        const Corner corner(g, first + r);
        T* to = out + r * patch;
        // Kernel columns [left, right) lie inside the input.
        const std::int64_t left = std::clamp<std::int64_t>(-corner.x, 0, g.kernel[1]);
        const std::int64_t right = std::clamp<std::int64_t>(g.width - corner.x, left, g.kernel[1]);
        for (std::int64_t c = 0; c < g.channels; ++c) {
          const T* const plane = in + (corner.image * g.channels + c) * g.height * g.width;
          for (std::int64_t i = 0; i < g.kernel[0]; ++i, to += g.kernel[1]) {
            const std::int64_t y = corner.y + i;
            if (y < 0 || y >= g.height) {
              std::fill_n(to, g.kernel[1], T(0));
              continue;
            }
            const T* const row = plane + y * g.width + corner.x;
            for (std::int64_t j = 0; j < left; ++j) to[j] = T(0);
            for (std::int64_t j = left; j < right; ++j) to[j] = row[j];
            for (std::int64_t j = right; j < g.kernel[1]; ++j) to[j] = T(0);
          }
        }
      }
    });
  });
}

void col2im(Context& ctx, const ConvGeometry& g, const Tensor& cols, std::int64_t first, const Tensor& dx) {
  visit_floating(cols.dtype(), "col2im", [&]<class T>() {
    using A = accumulator_t<T>;
    const T* const in = cols.data<T>();
    A* const out = dx.data<A>();
    const std::int64_t patch = g.patch(), area = g.kernel[0] * g.kernel[1],
                       per_image = g.out_height * g.out_width;
    const std::int64_t last = first + cols.size(0);
    if (per_image == 0) return;
    // One plane of dx belongs to one piece of work, which takes the positions in order.
    ctx.pool().parallel_for(g.batch * g.channels, [&](std::int64_t index) {
      const std::int64_t image = index / g.channels, c = index % g.channels;
      A* const plane = out + index * g.height * g.width;
      const std::int64_t end = std::min(last, (image + 1) * per_image);
      for (std::int64_t position = std::max(first, image * per_image); position < end; ++position) {
        const Corner corner(g, position);
        const T* const from = in + (position - first) * patch + c * area;
        const std::int64_t left = std::clamp<std::int64_t>(-corner.x, 0, g.kernel[1]);
        const std::int64_t right = std::clamp<std::int64_t>(g.width - corner.x, left, g.kernel[1]);
        for (std::int64_t i = 0; i < g.kernel[0]; ++i) {
          const std::int64_t y = corner.y + i;
          if (y < 0 || y >= g.height) continue;
          A* const row = plane + y * g.width + corner.x;
          for (std::int64_t j = left; j < right; ++j) row[j] += A(from[i * g.kernel[1] + j]);
        }
      }
    });
  });
}

}  // namespace llsa::kernels::cpu

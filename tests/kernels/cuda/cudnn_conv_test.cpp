// Convolution through cuDNN against the CPU, and the way back to im2col where it declines. In the emulator
// the library's part is played by tests/emu/cudnn.cpp.
#include <doctest/doctest.h>

#include "kernels/backend.h"
#include "kernels/conv.h"
#include "kernels/random.h"
#include "tests/kernels/cuda/contexts.h"

using namespace llsa;
using namespace llsa::kernels;
using namespace llsa::test;

TEST_SUITE_BEGIN("kernels/cuda/cudnn_conv");

namespace {

using Pair = std::array<std::int64_t, 2>;

struct Case {
  std::int64_t batch, channels, height, width, outputs;
  Pair kernel, stride = {1, 1}, padding = {0, 0};

  Shape x() const { return {batch, channels, height, width}; }
  Shape w() const { return {outputs, channels, kernel[0], kernel[1]}; }
  Shape y() const { return {batch, outputs, geometry().out_height, geometry().out_width}; }

  ConvGeometry geometry() const {
    ConvGeometry g{.batch = batch,
                   .channels = channels,
                   .height = height,
                   .width = width,
                   .kernel = kernel,
                   .stride = stride,
                   .padding = padding};
    g.out_height = (height + 2 * padding[0] - kernel[0]) / stride[0] + 1;
    g.out_width = (width + 2 * padding[1] - kernel[1]) / stride[1] + 1;
    return g;
  }
};

const Case kCases[] = {
    {1, 1, 1, 1, 1, {1, 1}},
    {2, 3, 8, 7, 4, {3, 3}, {1, 1}, {1, 1}},
    {2, 3, 16, 12, 5, {4, 4}, {4, 4}, {0, 0}},  // patches
    {1, 2, 9, 31, 3, {5, 2}, {2, 2}, {2, 1}},
    {1, 3, 65, 33, 10, {3, 3}, {2, 2}, {1, 1}},
    {1, 2, 4, 20, 3, {1, 7}, {1, 3}, {0, 6}},
    {3, 2, 5, 4, 2, {2, 3}, {1, 2}, {3, 4}},    // padding beyond the kernel
    {2, 2, 11, 10, 3, {1, 2}, {3, 3}, {0, 1}},  // stride beyond the kernel
    {0, 2, 5, 5, 3, {3, 3}, {1, 1}, {1, 1}},
    {1, 0, 5, 5, 3, {3, 3}, {1, 1}, {1, 1}},
};

double limit(DType dtype) { return dtype == DType::f64 ? 1e-13 : dtype == DType::f32 ? 1e-5 : 1.6e-2; }

Tensor normal(Context& ctx, const Shape& shape, DType dtype, std::uint64_t stream) {
  return random_normal(ctx, shape, dtype, 5, stream);
}

/// The same values, contiguous, off the alignment of an allocation.
Tensor shifted(Context& ctx, const Tensor& x) {
  const Tensor view = ctx.empty(Shape{x.numel() + 1}, x.dtype()).slice(0, 1, x.numel() + 1);
  copy(ctx, x.reshape(view.shape()), view);
  return view.reshape(x.shape());
}

/// Whether the build has cuDNN; prints when it does not.
bool has_cudnn(Context& gpu) {
  const Case c = kCases[1];
  const auto conv2d = backend(gpu).conv_library.conv2d;
  if (conv2d != nullptr && conv2d(gpu, c.geometry(), gpu.zeros(c.x(), DType::f32),
                                  gpu.zeros(c.w(), DType::f32), Tensor(), gpu.empty(c.y(), DType::f32)))
    return true;
  std::cout << "skipped: this build has no cuDNN\n";
  return false;
}

}  // namespace

TEST_CASE("any kernel, stride and padding, forward and backward") {
  if (!cuda_device()) return;
  Contexts both;
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    for (const Case& c : kCases) {
      for (const bool with_bias : {true, false}) {
        CAPTURE(name_of(dtype));
        CAPTURE(c.x());
        CAPTURE(c.w());
        CAPTURE(with_bias);
        const Tensor x = normal(both.cpu, c.x(), dtype, 1), w = normal(both.cpu, c.w(), dtype, 2),
                     bias = with_bias ? normal(both.cpu, Shape{c.outputs}, dtype, 3) : Tensor(),
                     dy = normal(both.cpu, c.y(), dtype, 4);
        const Tensor gx = shifted(both.gpu, both.to_gpu(x)), gw = shifted(both.gpu, both.to_gpu(w)),
                     gdy = clone(both.gpu, both.to_gpu(dy).transpose(2, 3)).transpose(2, 3);
        const auto near = [&](const Tensor& got, const Tensor& expected) {
          CHECK(difference(both.cpu, both.to_cpu(got), expected) <= limit(dtype));
        };
        near(conv2d(both.gpu, gx, gw, both.to_gpu(bias), c.stride, c.padding),
             conv2d(both.cpu, x, w, bias, c.stride, c.padding));
        const ConvGrads expected = conv2d_backward(both.cpu, dy, x, w, c.stride, c.padding);
        const ConvGrads got = conv2d_backward(both.gpu, gdy, gx, gw, c.stride, c.padding);
        near(got.dx, expected.dx);
        near(got.dw, expected.dw);
        near(got.db, expected.db);
        const ConvGrads some =
            conv2d_backward(both.gpu, gdy, gx, gw, c.stride, c.padding, false, true, false);
        CHECK(!some.dx.defined());
        CHECK(!some.db.defined());
        CHECK(difference(both.cpu, both.to_cpu(some.dw), both.to_cpu(got.dw)) <= 0);
      }
    }
  }
}

TEST_CASE("the library takes what it can, gives the same bits twice, and keeps no memory") {
  if (!cuda_device()) return;
  Contexts both;
  if (!has_cudnn(both.gpu)) return;
  const ConvLibrary& library = backend(both.gpu).conv_library;
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    for (const Case& c : kCases) {
      CAPTURE(name_of(dtype));
      CAPTURE(c.x());
      CAPTURE(c.w());
      const Tensor x = normal(both.gpu, c.x(), dtype, 1), w = normal(both.gpu, c.w(), dtype, 2),
                   dy = normal(both.gpu, c.y(), dtype, 3);
      struct Results {
        Tensor y, dx, dw;
      };
      const auto run = [&] {
        const Results r = {both.gpu.empty(c.y(), dtype), both.gpu.empty(c.x(), dtype),
                           both.gpu.empty(c.w(), dtype)};
        const std::size_t active = both.gpu.allocator()->stats().active;
        const bool taken = library.conv2d(both.gpu, c.geometry(), x, w, Tensor(), r.y);
        CHECK(library.conv2d_dx(both.gpu, c.geometry(), dy, w, r.dx) == taken);
        CHECK(library.conv2d_dw(both.gpu, c.geometry(), dy, x, r.dw) == taken);
        CHECK(both.gpu.allocator()->stats().active == active);
        return std::pair(taken, r);
      };
      const auto first = run(), second = run();
      CHECK(second.first == first.first);
      const bool plain = c.padding[0] < c.kernel[0] && c.padding[1] < c.kernel[1] &&
                         c.stride[0] <= c.kernel[0] && c.stride[1] <= c.kernel[1];
      if (dtype == DType::f64 || c.batch * c.channels == 0)
        CHECK(!first.first);
      else if (plain)
        CHECK(first.first);
#ifdef SIMT_EMU
      else
        CHECK(!first.first);
#endif
      if (!first.first) continue;
      const std::vector<Tensor> a = {first.second.y, first.second.dx, first.second.dw},
                                b = {second.second.y, second.second.dx, second.second.dw};
      for (std::size_t i = 0; i < a.size(); ++i)
        CHECK(to_vector<float>(both.gpu, a[i]) == to_vector<float>(both.gpu, b[i]));
    }
  }
}

TEST_CASE("bf16 with a bias is rounded once") {
  if (!cuda_device()) return;
  Contexts both;
  if (!has_cudnn(both.gpu)) return;
  const Case c{2, 5, 9, 8, 6, {3, 3}, {1, 1}, {1, 1}};
  const Tensor x = normal(both.cpu, c.x(), DType::bf16, 1), w = normal(both.cpu, c.w(), DType::bf16, 2),
               bias = normal(both.cpu, Shape{c.outputs}, DType::bf16, 3);
  const auto wide = [&](const Tensor& t) { return cast(both.cpu, t, DType::f64); };
  const auto exact =
      to_vector<double>(both.cpu, conv2d(both.cpu, wide(x), wide(w), wide(bias), c.stride, c.padding));
  const auto got = to_vector<double>(
      both.gpu, conv2d(both.gpu, both.to_gpu(x), both.to_gpu(w), both.to_gpu(bias), c.stride, c.padding));
  REQUIRE(got.size() == exact.size());
  for (std::size_t i = 0; i < got.size(); ++i)
    REQUIRE(std::abs(got[i] - exact[i]) <= std::abs(exact[i]) / 256 + 1e-5);
}

TEST_CASE("f32 is rounded to TF32 only where that is allowed") {
  if (!cuda_device()) return;
  Contexts both;
  if (!has_cudnn(both.gpu)) return;
  const Case c{2, 16, 12, 12, 16, {3, 3}, {1, 1}, {1, 1}};
  const Tensor x = normal(both.cpu, c.x(), DType::f32, 1), w = normal(both.cpu, c.w(), DType::f32, 2);
  const Tensor expected = conv2d(both.cpu, x, w, Tensor(), c.stride, c.padding);
  const auto error = [&] {
    const Tensor y = conv2d(both.gpu, both.to_gpu(x), both.to_gpu(w), Tensor(), c.stride, c.padding);
    return difference(both.cpu, both.to_cpu(y), expected);
  };
  CHECK(error() <= 1e-5);
  both.gpu.allow_tf32(true);
  CHECK(error() <= 4e-3);
#ifdef SIMT_EMU
  CHECK(error() > 1e-5);  // the stand-in rounds wherever it may
#endif
  both.gpu.allow_tf32(false);
  CHECK(error() <= 1e-5);
}

TEST_SUITE_END();

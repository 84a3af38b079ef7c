// Matrix products through cuBLASLt against the CPU: sizes, layouts, batches, and what is done on the way to
// memory. In the emulator the library's part is played by tests/emu/cublaslt.cpp.
#include "kernels/matmul.h"

#include <doctest/doctest.h>

#include "kernels/check.h"
#include "kernels/random.h"
#include "tests/kernels/cuda/contexts.h"

using namespace llsa;
using namespace llsa::kernels;
using namespace llsa::test;

TEST_SUITE_BEGIN("kernels/cuda/matmul");

namespace {

double limit(DType dtype) { return dtype == DType::f64 ? 1e-13 : dtype == DType::f32 ? 1e-5 : 1.6e-2; }

Tensor normal(Context& ctx, const Shape& shape, DType dtype, std::uint64_t stream) {
  return random_normal(ctx, shape, dtype, 11, stream);
}

/// The same values where the last axis is not the one with unit stride.
Tensor by_columns(Context& ctx, const Tensor& x) { return clone(ctx, x.transpose(-2, -1)).transpose(-2, -1); }

/// The same values with unused elements between the rows, off the alignment of an allocation.
Tensor with_gaps(Context& ctx, const Tensor& x) {
  std::vector<std::int64_t> extents = x.shape().extents();
  extents.back() += 3;
  const Tensor wide = ctx.empty(Shape(extents), x.dtype());
  fill(ctx, wide, std::numeric_limits<double>::quiet_NaN());
  const Tensor view = wide.slice(-1, 1, 1 + x.size(-1));
  copy(ctx, x, view);
  return view;
}

}  // namespace

TEST_CASE("products of all sizes and layouts") {
  if (!cuda_device()) return;
  Contexts both;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    for (const std::int64_t m : {0, 1, 5, 33}) {
      for (const std::int64_t n : {0, 1, 3, 16, 31}) {
        for (const std::int64_t k : {0, 1, 8, 17}) {
          CAPTURE(name_of(dtype));
          CAPTURE(m);
          CAPTURE(n);
          CAPTURE(k);
          const Tensor a = normal(both.cpu, Shape{m, k}, dtype, 1),
                       b = normal(both.cpu, Shape{k, n}, dtype, 2);
          const Tensor expected = matmul(both.cpu, a, b);
          const Tensor x = both.to_gpu(a), y = both.to_gpu(b);
          const auto check = [&](const Tensor& got) {
            CHECK(difference(both.cpu, both.to_cpu(got), expected) <= limit(dtype));
          };
          check(matmul(both.gpu, x, y));
          if (m * n * k == 0) continue;
          check(matmul(both.gpu, by_columns(both.gpu, x), y));
          check(matmul(both.gpu, x, by_columns(both.gpu, y)));
          check(matmul(both.gpu, with_gaps(both.gpu, x), with_gaps(both.gpu, y)));
          check(matmul(both.gpu, clone(both.gpu, x.transpose(0, 1)), clone(both.gpu, y.transpose(0, 1)), true,
                       true));
        }
      }
    }
  }
}

TEST_CASE("batches, broadcast and strided") {
  if (!cuda_device()) return;
  Contexts both;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    CAPTURE(name_of(dtype));
    const Tensor a = normal(both.cpu, Shape{2, 1, 5, 7}, dtype, 1),
                 b = normal(both.cpu, Shape{3, 7, 4}, dtype, 2);
    const Tensor x = both.to_gpu(a), y = both.to_gpu(b);
    const Tensor expected = matmul(both.cpu, a, b);
    CHECK(difference(both.cpu, both.to_cpu(matmul(both.gpu, x, y)), expected) <= limit(dtype));
    const Tensor heads = normal(both.cpu, Shape{4, 3, 2, 6}, dtype, 3).permute({1, 2, 0, 3});  // [3,2,4,6]
    const Tensor q = normal(both.gpu, Shape{4, 3, 2, 6}, dtype, 3).permute({1, 2, 0, 3});
    const Tensor scores = matmul(both.cpu, heads, heads, false, true);
    CHECK(difference(both.cpu, both.to_cpu(matmul(both.gpu, q, q, false, true)), scores) <= limit(dtype));
  }
  const Tensor many = normal(both.cpu, Shape{70000, 1, 2}, DType::f32, 4);
  const Tensor sums = matmul(both.cpu, many, many, false, true);
  const Tensor on_gpu = both.to_gpu(many);
  CHECK(difference(both.cpu, both.to_cpu(matmul(both.gpu, on_gpu, on_gpu, false, true)), sums) <= 1e-5);
}

TEST_CASE("linear layers, with and without bias and GELU, forward and backward") {
  if (!cuda_device()) return;
  Contexts both;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    for (const std::int64_t m : {0, 1, 37}) {
      for (const std::int64_t n : {1, 3, 8, 24, 30}) {  // 8, 24: where the library writes `pre`
        for (const std::int64_t k : {2, 16}) {
          for (const bool with_bias : {false, true}) {
            CAPTURE(name_of(dtype));
            CAPTURE(m);
            CAPTURE(n);
            CAPTURE(k);
            CAPTURE(with_bias);
            const Tensor x = normal(both.cpu, Shape{m, k}, dtype, 1),
                         w = normal(both.cpu, Shape{n, k}, dtype, 2),
                         dy = normal(both.cpu, Shape{m, n}, dtype, 4),
                         bias = with_bias ? normal(both.cpu, Shape{n}, dtype, 3) : Tensor();
            const Tensor gx = both.to_gpu(x), gw = both.to_gpu(w), gdy = both.to_gpu(dy),
                         gb = both.to_gpu(bias);
            const auto near = [&](const Tensor& got, const Tensor& expected) {
              CHECK(difference(both.cpu, both.to_cpu(got), expected) <= limit(dtype));
            };
            near(linear(both.gpu, gx, gw, gb), linear(both.cpu, x, w, bias));
            near(linear(both.gpu, gx, by_columns(both.gpu, gw), gb), linear(both.cpu, x, w, bias));
            const LinearGelu cpu = linear_gelu(both.cpu, x, w, bias), gpu = linear_gelu(both.gpu, gx, gw, gb);
            near(gpu.pre, cpu.pre);
            near(gpu.y, cpu.y);
            for (const bool gelu : {false, true}) {
              CAPTURE(gelu);
              // With GELU, x stands for what is in front of it, too.
              const auto expected =
                  linear_backward(both.cpu, dy, x, w, true, true, true, gelu ? x : Tensor());
              const auto got = linear_backward(both.gpu, gdy, gx, gw, true, true, true, gelu ? gx : Tensor());
              CHECK(got.dw.dtype() == accumulator_of(dtype));
              near(got.dx, expected.dx);
              near(got.dw, expected.dw);
              near(got.db, expected.db);
            }
            const auto part = linear_backward(both.gpu, gdy, gx, gw, false, false, true);
            CHECK(!part.dx.defined());
            CHECK(!part.dw.defined());
            near(part.db, linear_backward(both.cpu, dy, x, w, false, false, true).db);
          }
        }
      }
    }
  }
}

TEST_CASE("one bias after another, of other alignment, through one layer") {
  if (!cuda_device()) return;
  Contexts both;
  const Tensor x = normal(both.cpu, Shape{9, 8}, DType::bf16, 1),
               w = normal(both.cpu, Shape{16, 8}, DType::bf16, 2);
  const Tensor biases = normal(both.cpu, Shape{40}, DType::bf16, 3);
  const Tensor gx = both.to_gpu(x), gw = both.to_gpu(w), gb = both.to_gpu(biases);
  for (const std::int64_t first : {0, 16, 1, 8, 0, 3}) {
    CAPTURE(first);
    const Tensor got = linear_gelu(both.gpu, gx, gw, gb.slice(0, first, first + 16)).y;
    const Tensor expected = linear_gelu(both.cpu, x, w, biases.slice(0, first, first + 16)).y;
    CHECK(difference(both.cpu, both.to_cpu(got), expected) <= limit(DType::bf16));
  }
}

TEST_CASE("the workspace is made once, and TF32 only where it is allowed") {
  if (!cuda_device()) return;
  Contexts both;
  const Tensor x = normal(both.gpu, Shape{64, 64}, DType::f32, 1);
  const Tensor first = matmul(both.gpu, x, x);
  const std::size_t active = both.gpu.allocator()->stats().active;
  const Tensor second = matmul(both.gpu, x, x);
  CHECK(both.gpu.allocator()->stats().active == active + second.nbytes());
  CHECK(to_vector<float>(both.gpu, first) == to_vector<float>(both.gpu, second));
  CHECK(!both.gpu.tf32());
  both.gpu.allow_tf32(true);
  const Tensor rounded = matmul(both.gpu, x, x);
  CHECK(difference(both.cpu, both.to_cpu(rounded), both.to_cpu(first)) <= 4e-3);
  both.gpu.allow_tf32(false);
  CHECK(to_vector<float>(both.gpu, matmul(both.gpu, x, x)) == to_vector<float>(both.gpu, first));
}

TEST_SUITE_END();

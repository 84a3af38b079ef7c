// Graphs: replays read what tensors hold now, keep their memory to themselves, and failed captures leave
// nothing.
#include "core/cuda/graph.h"

#include <doctest/doctest.h>

#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "kernels/elementwise.h"
#include "tests/kernels/cuda/contexts.h"
#include "tests/support/text.h"

#ifdef SIMT_EMU
#include "tests/emu/emulator.h"
#endif

using namespace llsa;
using namespace llsa::test;

TEST_SUITE_BEGIN("kernels/cuda/graph");

namespace {

std::size_t held(Context& ctx) {
  const AllocatorStats stats = ctx.allocator()->stats();
  return stats.active + stats.cached + stats.reserved;
}

/// out = (2 x + 1)^2 + out, through temporaries.
void work(Context& ctx, const Tensor& x, const Tensor& out) {
  const Tensor y = kernels::affine(ctx, x, 2.0, 1.0);
  kernels::accumulate(ctx, kernels::mul(ctx, y, y), out);
}

/// Overwrites all that the cache would hand out, from one kind of block to the next.
void scribble(Context& ctx) {
  for (std::int64_t bytes = 64; bytes <= 1 << 20; bytes += bytes / 8) {
    std::vector<Tensor> blocks;
    for (int i = 0; i < 4; ++i) {
      blocks.push_back(ctx.empty({bytes / 8}, DType::f64));
      kernels::fill(ctx, blocks.back(), std::numeric_limits<double>::quiet_NaN());
    }
  }
}

}  // namespace

TEST_CASE("replays compute with what tensors hold at the time") {
  if (!cuda_device()) return;
  Context ctx(Device{DeviceType::cuda, 0}, 1);
  const Tensor x = ctx.zeros({1000}, DType::f32), out = ctx.zeros({1000}, DType::f32);
  work(ctx, x, out);  // 1
  cuda::Graph graph(ctx, [&] { work(ctx, x, out); });
  CHECK(graph.size() == 3);
  CHECK(ctx.item(out.slice(0, 7, 8)) == 1.0);  // nothing has run
  double want = 1.0;
  for (const double value : {1.0, -2.0, 0.5}) {
    kernels::fill(ctx, x, value);
    graph.launch();
    want += (2 * value + 1) * (2 * value + 1);
    CHECK(ctx.item(out.slice(0, 999, 1000)) == want);
  }
}

TEST_CASE("a graph keeps its memory, takes it from the cache and gives it back there") {
  if (!cuda_device()) return;
  Context ctx(Device{DeviceType::cuda, 0}, 1);
  const Tensor x = ctx.zeros({5000}, DType::f32), out = ctx.zeros({5000}, DType::f32);
  work(ctx, x, out);
  const std::size_t before = held(ctx), active = ctx.allocator()->stats().active;
  ctx.allocator()->reset_peak();
  auto graph = std::make_unique<cuda::Graph>(ctx, [&] { work(ctx, x, out); });
  const AllocatorStats captured = ctx.allocator()->stats();
  CHECK(held(ctx) == before);  // no new memory
  CHECK(captured.active == active);
  CHECK(captured.reserved >= 2 * 20000);  // y and its square
  CHECK(captured.peak == captured.active + captured.reserved);

  ctx.allocator()->release_cache();
  CHECK(ctx.allocator()->stats().cached == 0);
  CHECK(ctx.allocator()->stats().reserved == captured.reserved);
  kernels::fill(ctx, out, 0.0);
  for (int i = 1; i <= 3; ++i) {
    scribble(ctx);
    graph->launch();
    scribble(ctx);
    const Tensor y = kernels::affine(ctx, x, 1.0, 7.0);  // work between replays
    CHECK(ctx.item(y.slice(0, 11, 12)) == 7.0);
    CHECK(kernels::to_vector<float>(ctx, out) == std::vector<float>(5000, static_cast<float>(i)));
    if (i == 2) ctx.allocator()->release_cache();
  }
  CHECK(ctx.allocator()->stats().reserved == captured.reserved);
  const std::size_t cached = ctx.allocator()->stats().cached;
  graph.reset();
  CHECK(ctx.allocator()->stats().reserved == 0);
  CHECK(ctx.allocator()->stats().cached == cached + captured.reserved);
  CHECK(ctx.allocator()->stats().active == active);
  ctx.allocator()->release_cache();
  CHECK(held(ctx) == active);
}

TEST_CASE("a tensor made in the capture holds the result of the last replay, and may outlive the graph") {
  if (!cuda_device()) return;
  Context ctx(Device{DeviceType::cuda, 0}, 1);
  const Tensor x = ctx.zeros({33}, DType::f32);
  Tensor y;
  auto graph = std::make_unique<cuda::Graph>(ctx, [&] { y = kernels::affine(ctx, x, 2.0, 1.0); });
  for (const double value : {3.0, 4.0}) {
    kernels::fill(ctx, x, value);
    graph->launch();
    CHECK(ctx.item(y.slice(0, 32, 33)) == 2 * value + 1);
  }
  graph.reset();
  scribble(ctx);
  CHECK(ctx.item(y.slice(0, 0, 1)) == 9.0);
  const std::size_t active = ctx.allocator()->stats().active;
  y = Tensor();
  CHECK(ctx.allocator()->stats().active == active - 192);
  CHECK(ctx.allocator()->stats().reserved == 0);
}

TEST_CASE("graphs do not share memory, and may outlive their context") {
  if (!cuda_device()) return;
  std::unique_ptr<cuda::Graph> second;
  {
    Context ctx(Device{DeviceType::cuda, 0}, 1);
    const Tensor x = ctx.zeros({100}, DType::f32);
    Tensor a, b;
    cuda::Graph first(ctx, [&] { a = kernels::affine(ctx, x, 1.0, 1.0); });
    a = Tensor();
    second = std::make_unique<cuda::Graph>(ctx, [&] { b = kernels::affine(ctx, x, 1.0, 2.0); });
    first.launch();
    second->launch();
    first.launch();
    CHECK(ctx.item(b.slice(0, 0, 1)) == 2.0);
  }
  second.reset();
}

TEST_CASE("what needs the host is refused, and the context goes on") {
  if (!cuda_device()) return;
  Context ctx(Device{DeviceType::cuda, 0}, 1);
  const Tensor x = ctx.zeros({4}, DType::f32), one = ctx.zeros({1}, DType::f32);
  const std::vector<float> values = {1, 2, 3, 4};
  const auto capturing = [&](const std::function<void()>& f) {
    return failure_of<CudaError>([&] { cuda::Graph(ctx, [&] { f(); }); });
  };
  CHECK(contains(capturing([&] { ctx.upload(values.data(), x); }), "[upload]"));
  CHECK(contains(capturing([&] { ctx.item(one); }), "[download]"));
  CHECK(contains(capturing([&] { ctx.synchronize(); }), "[synchronize]"));
  CHECK(contains(capturing([&] { ctx.synchronize(); }), "before the capture"));
  CHECK(contains(capturing([&] { ctx.cuda_stream()->synchronize(); }), "cudaStreamSynchronize"));
  CHECK(contains(capturing([&] { cuda::Graph(ctx, [] {}); }), "captures do not nest"));
  CHECK(ctx.allocator()->stats().reserved == 0);
  CHECK_FALSE(ctx.cuda_stream()->capturing());
  ctx.upload(values.data(), x);
  CHECK(kernels::to_vector<float>(ctx, x) == values);
  cuda::Graph(ctx, [&] { kernels::fill(ctx, x, 5.0); }).launch();
  CHECK(ctx.item(x.slice(0, 3, 4)) == 5.0);
  CHECK_THROWS_AS(cuda::Graph(ctx, [] { throw ValueError("mine"); }), ValueError);
  Context cpu(1);
  CHECK_THROWS_AS(cuda::Graph(cpu, [] {}), DeviceError);
  CHECK_THROWS_AS(cpu.allocator()->open_pool(), DeviceError);
}

TEST_CASE("an older tensor that dies in the capture is an error") {
  if (!cuda_device()) return;
  Context ctx(Device{DeviceType::cuda, 0}, 1);
  Tensor state = ctx.zeros({100}, DType::f32);
  const std::string message = failure_of<CudaError>(
      [&] { cuda::Graph(ctx, [&] { state = kernels::affine(ctx, state, 1.0, 1.0); }); });
  CHECK(contains(message, "448 bytes"));  // 400, rounded up to a class
  CHECK(contains(message, "as long as the graph"));
  CHECK(ctx.allocator()->stats().reserved == 0);
}

TEST_CASE("out of memory in a capture") {
  if (!cuda_device()) return;
  Context ctx(Device{DeviceType::cuda, 0}, 1, 1 << 20);
  const Tensor x = ctx.zeros({1000}, DType::f32), out = ctx.zeros({1000}, DType::f32);
  static_cast<void>(
      ctx.empty({900'000}, DType::u8));  // stays in the cache: not to be given back in a capture
  const auto large = [&] { static_cast<void>(ctx.empty({500'000}, DType::u8)); };
  CHECK_THROWS_AS(cuda::Graph(ctx, large), OutOfMemoryError);
  CHECK(ctx.allocator()->stats().reserved == 0);
  CHECK_NOTHROW(large());
  CHECK_NOTHROW(cuda::Graph(ctx, large));
  cuda::Graph graph(ctx, [&] { work(ctx, x, out); });
  const std::string message = [&] {
    try {
      static_cast<void>(ctx.empty({1 << 20}, DType::u8));
    } catch (const OutOfMemoryError& error) {
      return std::string(error.what());
    }
    return std::string();
  }();
  CHECK(contains(message, cat(ctx.allocator()->stats().reserved, " kept for graphs")));
  graph.launch();
  CHECK(ctx.item(out.slice(0, 999, 1000)) == 1.0);
}

#ifdef SIMT_EMU
TEST_CASE("new memory in a capture stays the graph's") {
  Context ctx(Device{DeviceType::cuda, 0}, 1);
  const Tensor x = ctx.zeros({5000}, DType::f32), out = ctx.zeros({5000}, DType::f32);
  const std::size_t before = emu::device_bytes_in_use();
  {
    cuda::Graph graph(ctx, [&] { work(ctx, x, out); });  // the cache is empty
    CHECK(emu::device_bytes_in_use() == before + ctx.allocator()->stats().reserved);
    ctx.allocator()->release_cache();
    CHECK(emu::device_bytes_in_use() == before + ctx.allocator()->stats().reserved);
    graph.launch();
    CHECK(ctx.item(out.slice(0, 0, 1)) == 1.0);
  }
  ctx.allocator()->release_cache();
  CHECK(emu::device_bytes_in_use() == before);
}
#endif

TEST_SUITE_END();

// What a program that hosts the library relies on: work in its own stream, tensors over its own device memory, values and texts.
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <sstream>
#include <thread>
#include <vector>

#include "autograd/ops.h"
#include "kernels/elementwise.h"
#include "kernels/make.h"
#include "kernels/reduce.h"
#include "tests/kernels/cuda/contexts.h"

using namespace llsa;
using namespace llsa::test;

namespace {

/// A stream that is not the library's.
struct OwnStream {
  cudaStream_t stream = nullptr;
  OwnStream() { REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess); }
  ~OwnStream() {
    CHECK(cudaStreamDestroy(stream) == cudaSuccess);
  }  // it is still there: nobody else has destroyed it
};

std::shared_ptr<cuda::Stream> wrapped(const OwnStream& own) {
  return std::make_shared<cuda::Stream>(0, own.stream);
}

}  // namespace

TEST_SUITE_BEGIN("kernels/cuda/host");

TEST_CASE("a context in the caller's stream") {
  if (!cuda_device()) return;
  const OwnStream own;
  Tensor kept;
  {
    Context ctx(wrapped(own), 1);
    CHECK(ctx.device() == Device::cuda(0));
    CHECK(ctx.stream() == own.stream);
    const Var x(ctx, arange(ctx, 0, 100), true);
    backward(sum(square(x)));
    kept = x.grad();
    std::vector<float> host(100);
    REQUIRE(cudaMemcpyAsync(host.data(), kept.raw(), kept.nbytes(), cudaMemcpyDeviceToHost, own.stream) ==
            cudaSuccess);
    REQUIRE(cudaStreamSynchronize(own.stream) == cudaSuccess);
    CHECK(host[99] == 198.0f);
  }
  CHECK(cudaStreamQuery(own.stream) == cudaSuccess);
  kept = Tensor();  // its memory outlives the context
  CHECK_THROWS_AS(Context(std::shared_ptr<cuda::Stream>()), ValueError);
}

TEST_CASE("a context in the default stream") {
  if (!cuda_device()) return;
  Context ctx(std::make_shared<cuda::Stream>(0, nullptr), 1);
  CHECK(ctx.device().is_cuda());
  CHECK(ctx.item(kernels::sum(ctx, ones(ctx, {1000}), {})) == 1000.0);
}

TEST_CASE("the caller captures its stream into a graph") {
  if (!cuda_device()) return;
  const OwnStream own;
  Context ctx(wrapped(own), 1);
  const Tensor x = zeros(ctx, {5}), one = ones(ctx, {5});
  kernels::accumulate(ctx, one, x);  // what is made at the first use cannot be captured
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  REQUIRE(cudaStreamBeginCapture(own.stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  kernels::accumulate(ctx, one, x);
  CHECK_THROWS_AS(ctx.item(x.select(0, 0)), CudaError);
  REQUIRE(cudaStreamEndCapture(own.stream, &graph) == cudaSuccess);
  REQUIRE(cudaGraphInstantiateWithFlags(&executable, graph, 0) == cudaSuccess);
  CHECK(ctx.item(x.select(0, 4)) == 1.0);
  for (int i = 0; i < 3; ++i) REQUIRE(cudaGraphLaunch(executable, own.stream) == cudaSuccess);
  CHECK(ctx.item(x.select(0, 4)) == 4.0);
  CHECK(cudaGraphExecDestroy(executable) == cudaSuccess);
  CHECK(cudaGraphDestroy(graph) == cudaSuccess);
}

TEST_CASE("a tensor over the caller's device memory") {
  if (!cuda_device()) return;
  Context ctx(Device::cuda(), 1);
  void* memory = nullptr;
  REQUIRE(cudaMalloc(&memory, 6 * sizeof(float)) == cudaSuccess);
  int released = 0;
  {
    const Tensor x = Tensor::over(memory, {2, 3}, DType::f32, Device::cuda(), [&] {
      ++released;
      CHECK(cudaFree(memory) == cudaSuccess);
    });
    CHECK(x.raw() == memory);
    const std::uint64_t before = ctx.allocator()->stats().allocations;
    kernels::fill(ctx, x, 2.5);
    CHECK(ctx.allocator()->stats().allocations == before);
    CHECK(to_vector<float>(ctx, x) == std::vector<float>(6, 2.5f));
    std::ostringstream out;
    out << x.transpose(0, 1) << " and " << Var(ctx, randint(ctx, {1}, 7, 8, 0));
    CHECK(out.str() ==
          "f32 [3,2] on cuda:0: [[2.5, 2.5], [2.5, 2.5], [2.5, 2.5]] and i32 [1] on cuda:0: [7]");
    CHECK(released == 0);
  }
  CHECK(released == 1);
}

TEST_CASE("two contexts of one device in two threads") {
  if (!cuda_device()) return;
  std::vector<float> results[2];
  const auto work = [&](std::size_t which) {
    Context ctx(Device::cuda(), 1);
    const Var x(ctx, randn(ctx, {8, 16}, which), true);
    for (int step = 0; step < 3; ++step) backward(sum(square(linear(x, x))));
    results[which] = to_vector<float>(ctx, x.grad());
  };
  work(0);
  work(1);
  const std::vector<float> alone[2] = {results[0], results[1]};
  std::thread first(work, 0), second(work, 1);
  first.join();
  second.join();
  CHECK(results[0] == alone[0]);
  CHECK(results[1] == alone[1]);
}

TEST_SUITE_END();

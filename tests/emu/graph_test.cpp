// Stream capture in the emulator: what is captured does not run before the launch, and every call that a
// device would not take while capturing is refused and loses the capture.
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cuda/simt/simt.h"
#include "tests/emu/emulator.h"

using namespace llsa;

TEST_SUITE_BEGIN("emu/graph");

namespace {

__global__ void add_one(int* x) { atomicAdd(x, 1); }

/// A stream, an int on the device, and captures of the stream.
struct Fixture {
  cudaStream_t stream{};
  int* x = nullptr;
  cudaGraph_t graph{};

  Fixture() {
    REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
    REQUIRE(cudaMalloc(reinterpret_cast<void**>(&x), sizeof(int)) == cudaSuccess);
    REQUIRE(cudaMemset(x, 0, sizeof(int)) == cudaSuccess);
  }
  ~Fixture() {
    if (graph) CHECK(cudaGraphDestroy(graph) == cudaSuccess);
    CHECK(cudaFree(x) == cudaSuccess);
    CHECK(cudaStreamDestroy(stream) == cudaSuccess);
    cudaGetLastError();
  }
  Fixture(const Fixture&) = delete;
  Fixture& operator=(const Fixture&) = delete;

  void begin(cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal) {
    REQUIRE(cudaStreamBeginCapture(stream, mode) == cudaSuccess);
  }
  cudaError_t end() { return cudaStreamEndCapture(stream, &graph); }
  void launch_kernel() { simt::launch(add_one, dim3(2), dim3(32), 0, stream, x); }
  int value() {
    int host = -1;
    CHECK(cudaMemcpy(&host, x, sizeof(int), cudaMemcpyDeviceToHost) == cudaSuccess);
    return host;
  }
};

std::string name(cudaError_t error) { return cudaGetErrorName(error); }

}  // namespace

TEST_CASE("captured work runs at each launch, in its order, and not before") {
  Fixture f;
  int* pinned = nullptr;
  REQUIRE(cudaMallocHost(reinterpret_cast<void**>(&pinned), sizeof(int)) == cudaSuccess);
  f.begin();
  cudaStreamCaptureStatus status{};
  CHECK(cudaStreamIsCapturing(f.stream, &status) == cudaSuccess);
  CHECK(status == cudaStreamCaptureStatusActive);
  CHECK(cudaMemcpyAsync(f.x, pinned, sizeof(int), cudaMemcpyHostToDevice, f.stream) == cudaSuccess);
  f.launch_kernel();
  CHECK(cudaMemsetAsync(reinterpret_cast<char*>(f.x) + 3, 1, 1, f.stream) == cudaSuccess);
  REQUIRE(f.end() == cudaSuccess);
  CHECK(cudaStreamIsCapturing(f.stream, &status) == cudaSuccess);
  CHECK(status == cudaStreamCaptureStatusNone);
  CHECK(f.value() == 0);
  std::size_t nodes = 0;
  CHECK(cudaGraphGetNodes(f.graph, nullptr, &nodes) == cudaSuccess);
  CHECK(nodes == 3);

  cudaGraphExec_t executable{};
  REQUIRE(cudaGraphInstantiateWithFlags(&executable, f.graph, 0) == cudaSuccess);
  const auto launches = emu::statistics().launches;
  for (const int start : {5, -100}) {
    *pinned = start;  // read at the launch
    CHECK(cudaGraphLaunch(executable, f.stream) == cudaSuccess);
    CHECK(f.value() == (((start + 64) & 0xffffff) | 1 << 24));
  }
  CHECK(emu::statistics().launches == launches + 2);
  CHECK(cudaGraphExecDestroy(executable) == cudaSuccess);
  CHECK(cudaGraphLaunch(executable, f.stream) == cudaErrorInvalidValue);
  CHECK(cudaGraphExecDestroy(executable) == cudaErrorInvalidValue);
  CHECK(cudaFreeHost(pinned) == cudaSuccess);
  CHECK(cudaFreeHost(pinned) == cudaErrorInvalidValue);
}

TEST_CASE("calls that a capture does not take lose it") {
  Fixture f;
  cudaEvent_t outside{}, inside{};
  REQUIRE(cudaEventCreate(&outside) == cudaSuccess);
  REQUIRE(cudaEventCreate(&inside) == cudaSuccess);
  REQUIRE(cudaEventRecord(outside, nullptr) == cudaSuccess);
  int pageable = 0;
  void* p = nullptr;
  struct Case {
    const char* what;
    cudaError_t error;
    std::function<cudaError_t()> call;
  };
  const Case cases[] = {
      {"wait for the stream", cudaErrorStreamCaptureUnsupported,
       [&] { return cudaStreamSynchronize(f.stream); }},
      {"ask the stream", cudaErrorStreamCaptureUnsupported, [&] { return cudaStreamQuery(f.stream); }},
      {"wait for the device", cudaErrorStreamCaptureUnsupported, [&] { return cudaDeviceSynchronize(); }},
      {"wait for an event", cudaErrorStreamCaptureUnsupported, [&] { return cudaEventSynchronize(outside); }},
      {"ask an event", cudaErrorStreamCaptureUnsupported, [&] { return cudaEventQuery(outside); }},
      {"event of another stream", cudaErrorStreamCaptureIsolation,
       [&] { return cudaStreamWaitEvent(f.stream, outside, 0); }},
      {"pageable source", cudaErrorStreamCaptureUnsupported,
       [&] { return cudaMemcpyAsync(f.x, &pageable, sizeof(int), cudaMemcpyHostToDevice, f.stream); }},
      {"pageable destination", cudaErrorStreamCaptureUnsupported,
       [&] { return cudaMemcpyAsync(&pageable, f.x, sizeof(int), cudaMemcpyDeviceToHost, f.stream); }},
      {"copy that waits", cudaErrorStreamCaptureUnsupported,
       [&] { return cudaMemcpy(&pageable, f.x, sizeof(int), cudaMemcpyDeviceToHost); }},
      {"fill that waits", cudaErrorStreamCaptureUnsupported, [&] { return cudaMemset(f.x, 0, 4); }},
      {"allocate", cudaErrorStreamCaptureUnsupported, [&] { return cudaMalloc(&p, 16); }},
      {"allocate pinned", cudaErrorStreamCaptureUnsupported, [&] { return cudaMallocHost(&p, 16); }},
      {"allocate in the stream", cudaErrorStreamCaptureUnsupported,
       [&] { return cudaMallocAsync(&p, 16, f.stream); }},
      {"free", cudaErrorStreamCaptureUnsupported, [&] { return cudaFree(f.x); }},
  };
  for (const Case& c : cases) {
    CAPTURE(std::string(c.what));
    f.begin();
    f.launch_kernel();
    CHECK(name(c.call()) == name(c.error));
    CHECK(p == nullptr);
    cudaStreamCaptureStatus status{};
    CHECK(cudaStreamIsCapturing(f.stream, &status) == cudaSuccess);
    CHECK(status == cudaStreamCaptureStatusInvalidated);
    CHECK(cudaMemsetAsync(f.x, 0, 4, f.stream) == cudaErrorStreamCaptureInvalidated);
    CHECK_THROWS_AS(f.launch_kernel(), CudaError);
    CHECK(f.end() == cudaErrorStreamCaptureInvalidated);
    CHECK(f.graph == nullptr);
    CHECK(f.value() == 0);  // and everything can be called again
  }
  f.begin();
  CHECK(cudaEventRecord(inside, f.stream) == cudaSuccess);
  CHECK(cudaStreamWaitEvent(f.stream, inside, 0) == cudaSuccess);
  CHECK(f.end() == cudaSuccess);
  CHECK(cudaEventQuery(inside) == cudaErrorCapturedEvent);
  CHECK(cudaEventDestroy(inside) == cudaSuccess);
  CHECK(cudaEventDestroy(outside) == cudaSuccess);
}

TEST_CASE("a thread may exchange its mode to allocate; other threads do as they like") {
  Fixture f;
  void* p = nullptr;
  f.begin();
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  CHECK(cudaThreadExchangeStreamCaptureMode(&mode) == cudaSuccess);
  CHECK(mode == cudaStreamCaptureModeGlobal);
  CHECK(cudaMalloc(&p, 16) == cudaSuccess);
  CHECK(cudaStreamQuery(f.stream) == cudaErrorStreamCaptureUnsupported);  // never while it captures
  CHECK(f.end() == cudaErrorStreamCaptureInvalidated);
  CHECK(cudaThreadExchangeStreamCaptureMode(&mode) == cudaSuccess);
  CHECK(cudaFree(p) == cudaSuccess);

  f.begin();
  std::thread([&] {
    CHECK(cudaMalloc(&p, 16) == cudaSuccess);
    CHECK(cudaFree(p) == cudaSuccess);
    CHECK(cudaStreamEndCapture(f.stream, &f.graph) == cudaErrorStreamCaptureWrongThread);
  }).join();
  CHECK(f.end() == cudaSuccess);
  CHECK(cudaGraphDestroy(f.graph) == cudaSuccess);

  f.begin(cudaStreamCaptureModeGlobal);
  std::thread([&] { CHECK(cudaMalloc(&p, 16) == cudaErrorStreamCaptureUnsupported); }).join();
  CHECK(f.end() == cudaErrorStreamCaptureInvalidated);
  f.begin(cudaStreamCaptureModeRelaxed);
  CHECK(cudaMalloc(&p, 16) == cudaSuccess);
  CHECK(cudaFree(p) == cudaSuccess);
  CHECK(f.end() == cudaSuccess);
}

TEST_CASE("captures begin and end in pairs, on streams of the program's own") {
  Fixture f;
  CHECK(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeThreadLocal) ==
        cudaErrorStreamCaptureUnsupported);
  CHECK(f.end() == cudaErrorIllegalState);
  f.begin();
  CHECK(cudaStreamBeginCapture(f.stream, cudaStreamCaptureModeThreadLocal) == cudaErrorIllegalState);
  CHECK(f.end() == cudaSuccess);
}

TEST_CASE("what goes wrong in a captured kernel is thrown by the launch") {
  Fixture f;
  f.begin();
  simt::launch(
      +[](int*) {
        if (threadIdx.x == 3) return;
        __shfl_sync(0xffffffffu, 0, 0);
      },
      dim3(1), dim3(32), 0, f.stream, f.x);
  REQUIRE(f.end() == cudaSuccess);
  cudaGraphExec_t executable{};
  REQUIRE(cudaGraphInstantiateWithFlags(&executable, f.graph, 0) == cudaSuccess);
  CHECK_THROWS_AS(static_cast<void>(cudaGraphLaunch(executable, f.stream)), emu::KernelError);
  CHECK(cudaGraphExecDestroy(executable) == cudaSuccess);
}

TEST_SUITE_END();

// The emulated CUDA runtime: sizes, kinds and handles are checked. And the settings of the emulator.
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "kernels/cuda/simt/simt.h"
#include "tests/emu/emulator.h"

using namespace llsa;

TEST_SUITE_BEGIN("emu/runtime");

TEST_CASE("device memory has its exact size and begins as NaN") {
  float* x = nullptr;
  const std::size_t before = emu::device_bytes_in_use();
  REQUIRE(cudaMalloc(reinterpret_cast<void**>(&x), 12) == cudaSuccess);
  CHECK(emu::device_bytes_in_use() == before + 12);
  float host[4] = {};
  CHECK(cudaMemcpy(host, x, 12, cudaMemcpyDeviceToHost) == cudaSuccess);
  CHECK((std::isnan(host[0]) && std::isnan(host[2]) && host[3] == 0));
  CHECK(cudaMemcpy(host, x, 16, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(x + 1, host, 12, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(cudaMemset(x, 0, 13) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(x, host, 12, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);  // the wrong way round
  CHECK(cudaMemcpy(host, host + 2, 4, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(x, host, 12, cudaMemcpyDefault) == cudaSuccess);
  CHECK(cudaFree(host) == cudaErrorInvalidValue);
  CHECK(cudaFree(x + 1) == cudaErrorInvalidValue);
  CHECK(cudaFree(x) == cudaSuccess);
  CHECK(cudaFree(x) == cudaErrorInvalidValue);
  CHECK(cudaFree(nullptr) == cudaSuccess);
  CHECK(emu::device_bytes_in_use() == before);
  cudaGetLastError();
}

TEST_CASE("rows of a pitched copy") {
  std::vector<int> from = {1, 2, 3, 4, 5, 6}, to(6);
  int* x = nullptr;
  REQUIRE(cudaMalloc(reinterpret_cast<void**>(&x), 24) == cudaSuccess);
  REQUIRE(cudaMemset(x, 0, 24) == cudaSuccess);
  CHECK(cudaMemcpy2DAsync(x, 12, from.data(), 12, 8, 2, cudaMemcpyHostToDevice, nullptr) == cudaSuccess);
  CHECK(cudaMemcpy(to.data(), x, 24, cudaMemcpyDeviceToHost) == cudaSuccess);
  CHECK(to == std::vector<int>{1, 2, 0, 4, 5, 0});
  cudaFree(x);
}

TEST_CASE("out of memory") {
  void* p = nullptr;
  emu::set_device_memory(emu::device_bytes_in_use() + 1000);
  CHECK(cudaMalloc(&p, 1001) == cudaErrorMemoryAllocation);
  CHECK(p == nullptr);
  CHECK(cudaGetLastError() == cudaErrorMemoryAllocation);
  CHECK(cudaMalloc(&p, 600) == cudaSuccess);
  std::size_t free_bytes = 0, total = 0;
  CHECK(cudaMemGetInfo(&free_bytes, &total) == cudaSuccess);
  CHECK(free_bytes == 400);
  void* q = nullptr;
  CHECK(cudaMalloc(&q, 600) == cudaErrorMemoryAllocation);
  CHECK(cudaFree(p) == cudaSuccess);
  CHECK(cudaMalloc(&q, 600) == cudaSuccess);
  CHECK(cudaFree(q) == cudaSuccess);
  emu::set_device_memory(0);
  cudaGetLastError();
}

TEST_CASE("devices") {
  int count = 0, index = -1;
  CHECK(cudaGetDeviceCount(&count) == cudaSuccess);
  CHECK(count == 1);
  CHECK(cudaSetDevice(1) == cudaErrorInvalidDevice);
  cudaDeviceProp properties;
  CHECK(cudaGetDeviceProperties(&properties, 0) == cudaSuccess);
  CHECK(properties.major == 9);
  emu::set_device_count(0);
  CHECK(cudaGetDeviceCount(&count) == cudaErrorNoDevice);
  CHECK(cudaGetDevice(&index) == cudaErrorNoDevice);
  emu::set_device_count(1);
  cudaGetLastError();
}

TEST_CASE("events") {
  cudaEvent_t start{}, end{};
  REQUIRE(cudaEventCreate(&start) == cudaSuccess);
  REQUIRE(cudaEventCreate(&end) == cudaSuccess);
  float ms = 0;
  CHECK(cudaEventElapsedTime(&ms, start, end) == cudaErrorInvalidResourceHandle);  // not recorded
  CHECK(cudaEventRecord(start, nullptr) == cudaSuccess);
  CHECK(cudaEventRecord(end, nullptr) == cudaSuccess);
  CHECK(cudaEventElapsedTime(&ms, start, end) == cudaSuccess);
  CHECK(cudaEventDestroy(start) == cudaSuccess);
  CHECK(cudaEventRecord(start, nullptr) == cudaErrorInvalidResourceHandle);
  CHECK(cudaEventDestroy(end) == cudaSuccess);
  cudaGetLastError();
}

TEST_CASE("orders") {
  CHECK(emu::parse_order("fwd").order == emu::Order::forward);
  CHECK(emu::parse_order("rev").order == emu::Order::reverse);
  CHECK(emu::parse_order("rnd:17").order == emu::Order::random);
  CHECK(emu::parse_order("rnd:17").seed == 17);
  for (const char* const wrong : {"", "forward", "rnd", "rnd:", "rnd:1x"})
    CHECK_THROWS_AS(emu::parse_order(wrong), ValueError);
}

TEST_CASE("lanes and blocks take their turns in the order that was asked for") {
  static int turns[160], taken;
  const auto turns_in = [](const char* order) {
    emu::Settings settings = emu::parse_order(order);
    settings.threads = 1;
    const emu::WithSettings in_order(settings);
    taken = 0;
    simt::launch(
        +[] {
          turns[atomicAdd(&taken, 1)] = static_cast<int>(100 * blockIdx.x + threadIdx.x);
          __syncthreads();
          turns[atomicAdd(&taken, 1)] = static_cast<int>(1000 + 100 * blockIdx.x + threadIdx.x);
        },
        dim3(2), dim3(40), 0, nullptr);
    return std::vector<int>(turns, turns + taken);
  };
  const auto forward = turns_in("fwd"), reverse = turns_in("rev"), random = turns_in("rnd:1");
  REQUIRE(forward.size() == 160);
  for (int i = 0; i < 40; ++i) {
    CHECK(forward[static_cast<std::size_t>(i)] == i);
    CHECK(forward[static_cast<std::size_t>(80 + i)] == 100 + i);
    CHECK(reverse[static_cast<std::size_t>(i)] == 139 - i);
  }
  CHECK(random != forward);
  CHECK(random != reverse);
  CHECK(random == turns_in("rnd:1"));
  CHECK(random != turns_in("rnd:2"));
  CHECK(emu::statistics().blocks >= 10);
}

TEST_SUITE_END();

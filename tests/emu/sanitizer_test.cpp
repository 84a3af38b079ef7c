// In sanitizer builds: what the emulator leaves to them is found by them.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "kernels/cuda/simt/ptx.h"
#include "kernels/cuda/simt/simt.h"
#include "tests/emu/emulator.h"
#include "tests/emu/sanitizers.h"

using namespace llsa;

namespace {

// Whether a process of its own that launches one block of 64 threads ends in the sanitizer's report. What a
// kernel writes is 256 bytes of device memory.
[[maybe_unused]] bool is_reported(void (*kernel)(int*)) {
  const pid_t child = fork();
  if (child == 0) {
    const int nowhere = open("/dev/null", O_WRONLY);
    dup2(nowhere, STDERR_FILENO);
    dup2(nowhere, STDOUT_FILENO);
    emu::Settings settings;
    settings.threads = 1;
    emu::set_settings(settings);
    int* p = nullptr;
    if (cudaMalloc(reinterpret_cast<void**>(&p), 256) != cudaSuccess) std::exit(0);
    try {
      simt::launch(kernel, dim3(1), dim3(64), 256, nullptr, p);
    } catch (const emu::KernelError&) {
      std::_Exit(0);
    }
    cudaFree(p);
    std::exit(0);  // ThreadSanitizer gives its own status here
  }
  int status = 0;
  return child > 0 && waitpid(child, &status, 0) == child && !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

}  // namespace

TEST_SUITE_BEGIN("emu/sanitizers");

#if LLSA_EMU_ASAN
TEST_CASE("AddressSanitizer sees the exact ends of memory") {
  CHECK_FALSE(is_reported([](int* p) {
    SIMT_SHARED(x, int[64]);
    SIMT_DYNAMIC_SHARED(raw);
    reinterpret_cast<int*>(raw)[threadIdx.x] = x[threadIdx.x] = p[threadIdx.x] = 1;
  }));
  CHECK(is_reported([](int* p) { p[threadIdx.x + 1] = 1; }));
  CHECK(is_reported([](int* p) { p[static_cast<int>(threadIdx.x) - 1] = 1; }));
  CHECK(is_reported([](int*) {
    SIMT_SHARED(x, int[64]);
    x[threadIdx.x + 1] = 1;
  }));
  CHECK(is_reported([](int*) {
    SIMT_DYNAMIC_SHARED(raw);
    reinterpret_cast<int*>(raw)[threadIdx.x + 1] = 1;
  }));
}

TEST_CASE("AddressSanitizer sees copies") {
  CHECK(is_reported([](int* p) {  // reads behind the end of device memory
    SIMT_SHARED(tile, uint4[64]);
    ptx::cp_async16(simt::smem_address(tile + threadIdx.x), p + 4 * threadIdx.x);
    ptx::cp_async_commit();
    ptx::cp_async_wait<0>();
  }));
  CHECK(is_reported([](int* p) {  // reads what has not come yet
    SIMT_SHARED(tile, uint4[16]);
    if (threadIdx.x < 16) ptx::cp_async16(simt::smem_address(tile + threadIdx.x), p + 4 * threadIdx.x);
    ptx::cp_async_commit();
    ptx::cp_async_wait<1>();
    if (threadIdx.x < 16) p[threadIdx.x] = static_cast<int>(tile[threadIdx.x].x);
    ptx::cp_async_wait<0>();
  }));
  CHECK(is_reported([](int*) {  // an mbarrier between two arrays
    SIMT_SHARED(x, int[64]);
    SIMT_SHARED(y, int[64]);
    x[threadIdx.x] = y[threadIdx.x] = 1;
    __syncthreads();
    const unsigned first = std::min(simt::smem_address(x), simt::smem_address(y));
    if (threadIdx.x == 0) ptx::mbarrier_init(first + sizeof x, 1);
  }));
  CHECK(is_reported([](int* p) {  // a bulk copy over its own mbarrier
    SIMT_SHARED(tile, uint4[4]);
    const unsigned address = simt::smem_address(tile);
    if (threadIdx.x == 0) {
      ptx::mbarrier_init(address, 1);
      ptx::bulk_copy(address, p, 16, address);
    }
  }));
  CHECK_FALSE(is_reported([](int* p) {  // the source is not read where there are no bytes to copy
    SIMT_SHARED(tile, uint4[64]);
    ptx::cp_async16(simt::smem_address(tile + threadIdx.x), p + 4 * threadIdx.x, threadIdx.x < 16 ? 16 : 0);
    ptx::cp_async_commit();
    ptx::cp_async_wait<0>();
  }));
}
#endif

#if LLSA_EMU_TSAN
TEST_CASE("ThreadSanitizer sees hand-offs without a barrier") {
  CHECK_FALSE(is_reported([](int* p) {
    SIMT_SHARED(x, int[64]);
    x[threadIdx.x] = 1;
    __syncthreads();
    p[threadIdx.x] = x[threadIdx.x ^ 33];
    __syncthreads();
    x[threadIdx.x] = 2;
    __syncwarp();
    p[threadIdx.x] = x[threadIdx.x ^ 1];
  }));
  CHECK(is_reported([](int* p) {
    SIMT_SHARED(x, int[64]);
    x[threadIdx.x] = 1;
    p[threadIdx.x] = x[threadIdx.x ^ 1];
  }));
  CHECK(is_reported([](int* p) {  // a shuffle orders nothing
    SIMT_SHARED(x, int[64]);
    x[threadIdx.x] = 1;
    (void)__shfl_sync(0xffffffffu, 1, 0);
    p[threadIdx.x] = x[threadIdx.x ^ 1];
  }));
  CHECK(is_reported([](int* p) {  // the barrier is the warp's, the reader in another one
    SIMT_SHARED(x, int[64]);
    x[threadIdx.x] = 1;
    __syncwarp();
    p[threadIdx.x] = x[threadIdx.x ^ 33];
  }));
  CHECK(is_reported([](int* p) {  // the overwrite comes too early
    SIMT_SHARED(x, int[64]);
    for (int i = 0; i < 2; ++i) {
      x[threadIdx.x] = i;
      __syncthreads();
      p[threadIdx.x] = x[threadIdx.x ^ 1];
    }
  }));
  CHECK(is_reported([](int* p) { *p = static_cast<int>(threadIdx.x); }));
}

TEST_CASE("ThreadSanitizer sees copies") {
  CHECK_FALSE(is_reported([](int* p) {
    SIMT_SHARED(tile, int[16][4]);
    if (threadIdx.x < 16) ptx::cp_async16(simt::smem_address(tile + threadIdx.x), p + 4 * threadIdx.x);
    ptx::cp_async_commit();
    ptx::cp_async_wait<0>();
    __syncthreads();
    p[threadIdx.x] = tile[0][threadIdx.x ^ 5];
  }));
  CHECK(is_reported([](int* p) {  // each lane has waited for its own copies only
    SIMT_SHARED(tile, int[16][4]);
    if (threadIdx.x < 16) ptx::cp_async16(simt::smem_address(tile + threadIdx.x), p + 4 * threadIdx.x);
    ptx::cp_async_commit();
    ptx::cp_async_wait<0>();
    p[threadIdx.x] = tile[0][threadIdx.x ^ 5];
  }));
}
#endif

TEST_SUITE_END();

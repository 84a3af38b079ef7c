// One broken kernel per diagnostic of the emulator, and what the launch then says.
#include <doctest/doctest.h>

#include <cmath>
#include <iostream>
#include <string>
#include <vector>

#include "kernels/cuda/simt/ptx.h"
#include "kernels/cuda/simt/simt.h"
#include "tests/emu/emulator.h"
#include "tests/emu/sanitizers.h"
#include "tests/emu/shared.h"
#include "tests/support/text.h"

using namespace llsa;

namespace {

using llsa::test::contains;

constexpr unsigned kAll = 0xffffffffu;

using Kernel = void (*)();

// The message of the error that a launch ends with in the order that is set; "" if it succeeds.
std::string message_of(dim3 grid, dim3 block, Kernel kernel, std::size_t shared_bytes = 0,
                       cudaStream_t stream = nullptr) {
  try {
    simt::launch(kernel, grid, block, shared_bytes, stream);
  } catch (const emu::KernelError& e) {
    return e.what();
  }
  return {};
}

// The same of one block, in every order the same kind.
std::string failure(unsigned threads, Kernel kernel, std::size_t shared_bytes = 0) {
  std::string message;
  for (const char* const order : {"rnd:1", "rev", "fwd"}) {
    const emu::WithSettings in_order(emu::parse_order(order));
    message = message_of(dim3(1), dim3(threads), kernel, shared_bytes);
    if (message.empty()) return message;
  }
  return message;
}

// Checks that the launch of one block fails, and that the message contains all of these.
void check_fails(unsigned threads, Kernel kernel, const std::vector<std::string>& parts,
                 std::size_t shared_bytes = 0) {
  const std::string text = failure(threads, kernel, shared_bytes);
  INFO("message: ", text);
  for (const std::string& part : parts) {
    INFO("expected: ", part);
    CHECK(contains(text, part));
  }
}

// Checks what the message contains in one order, where it depends on who comes first.
void check_fails_in(const char* order, unsigned threads, Kernel kernel, const std::string& part) {
  const emu::WithSettings in_order(emu::parse_order(order));
  const std::string text = message_of(dim3(1), dim3(threads), kernel);
  INFO("message: ", text);
  INFO("expected: ", part);
  CHECK(contains(text, part));
}

}  // namespace

TEST_SUITE_BEGIN("emu/diagnostics");

TEST_CASE("barriers") {
  check_fails(64,
              [] {
                if (threadIdx.x < 32)
                  __syncthreads();
                else
                  __syncthreads();
              },
              {"divergent barrier: __syncthreads at", "diagnostics_test.cpp", "block (0,0,0)"});
  const Kernel some_leave = [] {
    if (threadIdx.x < 40) __syncthreads();
  };
  check_fails(64, some_leave, {"__syncthreads"});
  check_fails_in("fwd", 64, some_leave, "thread ends while others wait in __syncthreads at");
  check_fails_in("rev", 64, some_leave, "after threads of the block have ended");
  check_fails(96, [] { ptx::named_barrier(1, threadIdx.x < 32 ? 96 : 64); }, {"divergent barrier: bar.sync"});
  const Kernel too_few = [] {
    if (threadIdx.x < 32) ptx::named_barrier(1, 96);
  };
  check_fails(96, too_few, {"deadlock", "threads 0-31: waits in bar.sync"});
  check_fails_in("fwd", 96, too_few, "deadlock: the last thread that could run has ended");
  check_fails_in("rev", 96, too_few, "deadlock: no thread of the block can run");
  check_fails(96, [] { ptx::named_barrier(16, 96); }, {"there is no barrier 16"});
  check_fails(96, [] { ptx::named_barrier(1, 40); }, {"40 threads are not whole warps"});
  check_fails(96, [] { ptx::named_barrier(1, 128); }, {"128 threads are not whole warps of this block"});
}

TEST_CASE("the state of all threads is in the message") {
  const emu::WithSettings in_order(emu::parse_order("fwd"));
  std::string text;
  try {
    simt::launch(
        +[] {
          if (threadIdx.x < 8) __syncwarp(0xffu);
          if (threadIdx.x == 3) (void)__shfl_sync(kAll, 1, 0);
          if (threadIdx.x == 32) __trap();
          __syncthreads();
        },
        dim3(1), dim3(40), 0, nullptr);
  } catch (const emu::KernelError& e) {
    text = e.what();
  }
  INFO(text);
  CHECK(contains(text, "[block (0,0,0) thread (32,0,0)]"));
  CHECK(contains(text, "threads 32: here"));
  CHECK(contains(text, "threads 33-39: can run"));
  CHECK(contains(text, "threads 3: waits in __shfl_sync at "));
  CHECK(contains(text, "threads 0-2, 4-31: waits in __syncthreads at "));
}

TEST_CASE("collectives of a warp") {
  const Kernel half = [] {
    if (threadIdx.x < 16) (void)__shfl_xor_sync(kAll, 1, 1);
  };
  check_fails(32, half, {"__shfl_xor_sync"});
  check_fails(32, [] { (void)__shfl_sync(kAll, 1, 40, 64); }, {"__shfl_sync at", "source lane 40"});
  check_fails_in("fwd", 32, half, "thread ends while others wait for it in __shfl_xor_sync at");
  check_fails_in("rev", 32, half, "lanes 0xffff0000 of the mask 0xffffffff have ended or never were");
  check_fails(32,
              [] {
                if (threadIdx.x < 16)
                  (void)__shfl_xor_sync(kAll, 1, 1);
                else
                  (void)__shfl_xor_sync(kAll, 1, 1);
              },
              {"divergent collective: __shfl_xor_sync"});
  check_fails(32,
              [] {
                if (threadIdx.x < 16)
                  __syncwarp();
                else
                  (void)__ballot_sync(kAll, 1);
              },
              {"divergent collective", "__syncwarp", "__ballot_sync"});
  check_fails(32,
              [] {
                if (threadIdx.x < 16)
                  __syncwarp(0x0001ffffu);
                else
                  __syncwarp(0xffff8000u);
              },
              {"divergent collective: __syncwarp at", "with mask 0xffff8000, but lanes 0x0000ffff wait",
               "in __syncwarp at", "with mask 0x0001ffff"});
  check_fails(32, [] { __syncwarp(0xffffu); }, {"the calling lane", "is not in the mask 0x0000ffff"});
  check_fails(16, [] { __syncwarp(); }, {"lanes 0xffff0000 of the mask 0xffffffff"});
  check_fails(32,
              [] {
                if (threadIdx.x == 0) return;
                __syncwarp();
              },
              {"__syncwarp"});
  check_fails(64,
              [] {
                if (threadIdx.x < 32) __syncthreads();
                if (threadIdx.x >= 32) (void)__shfl_sync(kAll, 1, 0);
                float d[4] = {};
                const std::uint32_t a[4] = {};
                if (threadIdx.x % 32 < 31) ptx::mma_m16n8k16_bf16(d, a, 0, 0);
              },
              {"at "});
}

TEST_CASE("a warp may use any number of masks") {
  CHECK(failure(32, [] {
          for (unsigned i = 1; i <= 200; ++i) {
            const unsigned mask = i * 0x9e3779b1u | 1;
            if (mask >> threadIdx.x & 1) __syncwarp(mask);
          }
        }).empty());
}

TEST_CASE("cp.async") {
  static uint4 source[64];
  check_fails(32,
              [] {
                SIMT_SHARED(tile, uint4[32]);
                ptx::cp_async16(simt::smem_address(tile + threadIdx.x), source + threadIdx.x);
                ptx::cp_async_commit();
              },
              {"thread ends with 1 cp.async under way", "diagnostics_test.cpp"});
  check_fails(32,
              [] {
                SIMT_SHARED(tile, uint4[33]);
                ptx::cp_async16(simt::smem_address(tile + threadIdx.x) + 8, source + threadIdx.x);
                ptx::cp_async_wait<0>();
              },
              {"cp.async at", "is no multiple of 16"});
  check_fails(32,
              [] {
                SIMT_SHARED(tile, uint4[32]);
                ptx::cp_async16(simt::smem_address(tile + threadIdx.x),
                                reinterpret_cast<const char*>(source + threadIdx.x) + 4);
              },
              {"cp.async at", "source", "is no multiple of 16"});
  check_fails(1,
              [] {
                SIMT_SHARED(tile, uint4[1]);
                ptx::cp_async16(simt::smem_address(tile), source, 20);
              },
              {"20 source bytes for 16"});
}

TEST_CASE("what a copy brings is not there before it was waited for") {
#if LLSA_EMU_ASAN
  std::cout << "skipped: AddressSanitizer stops the program at the read\n";
#else
  static uint4 source[2];
  static bool early[2], late;
  source[0].x = source[1].x = 7;
  simt::launch(
      +[] {
        SIMT_SHARED(tile, uint4[2]);
        const volatile unsigned* const word = &tile[0].x;
        tile[0].x = tile[1].x = 1;
        for (int i = 0; i < 2; ++i) {
          ptx::cp_async16(simt::smem_address(tile + i), source + i);
          ptx::cp_async_commit();
        }
        early[0] = word[0] == ~0u;
        ptx::cp_async_wait<1>();
        early[1] = word[0] == 7 && word[4] == ~0u;
        ptx::cp_async_wait<0>();
        late = word[4] == 7;
      },
      dim3(1), dim3(1), 0, nullptr);
  CHECK(early[0]);
  CHECK(early[1]);
  CHECK(late);
#endif
}

TEST_CASE("addresses in shared memory") {
  check_fails(32,
              [] {
                SIMT_SHARED(tile, uint4[33]);
                std::uint32_t r[4];
                ptx::ldmatrix_x4(r, simt::smem_address(tile + threadIdx.x) + 2);
              },
              {"ldmatrix at", "is no multiple of 16"});
  check_fails(32,
              [] {
                SIMT_SHARED(tile, uint4[32]);
                std::uint32_t r[4];
                ptx::ldmatrix_x4(r, simt::smem_address(tile) + 16 * threadIdx.x + 16);
              },
              {"ldmatrix at", "is outside the block's memory"});
  check_fails(1,
              [] {
                SIMT_SHARED(tile, int[4]);
                const int local = tile[0];
                (void)simt::smem_address(&local);
              },
              {"no address of this block's shared memory"});
}

TEST_CASE("mbarriers and bulk copies") {
  static uint4 source[8];
  check_fails(2,
              [] {
                SIMT_SHARED(barrier, unsigned long long);
                const unsigned address = simt::smem_address(&barrier);
                if (threadIdx.x == 0) ptx::mbarrier_init(address, 3);
                __syncthreads();
                ptx::mbarrier_arrive(address);
                ptx::mbarrier_wait(address, 0);
              },
              {"deadlock: no thread of the block can run", "threads 0-1", "mbarrier.try_wait"});
  check_fails(1,
              [] {
                SIMT_SHARED(barrier, unsigned long long);
                ptx::mbarrier_init(simt::smem_address(&barrier), 0);
              },
              {"mbarrier.init at", "diagnostics_test.cpp", "count 0"});
  check_fails(1,
              [] {
                SIMT_SHARED(barrier, unsigned long long);
                ptx::mbarrier_init(simt::smem_address(&barrier), 0x8000);
              },
              {"mbarrier.init at", "count 32768"});
  check_fails(1,
              [] {
                SIMT_SHARED(barrier, unsigned long long);
                ptx::mbarrier_arrive(simt::smem_address(&barrier));
              },
              {"mbarrier", "was not initialised"});
  check_fails(1,
              [] {
                SIMT_SHARED(barrier, unsigned long long);
                const unsigned address = simt::smem_address(&barrier);
                ptx::mbarrier_init(address, 1);
                ptx::mbarrier_arrive_expect_tx(address, 16);
                ptx::mbarrier_arrive(address);
              },
              {"more arrivals than the 1 of a phase"});
  check_fails(1,
              [] {
                SIMT_SHARED(barrier, unsigned long long);
                SIMT_SHARED(tile, uint4[8]);
                const unsigned address = simt::smem_address(&barrier);
                ptx::mbarrier_init(address, 1);
                ptx::mbarrier_arrive_expect_tx(address, 128);
                ptx::bulk_copy(simt::smem_address(tile), source, 128, address);
              },
              {"bulk copy that nobody waited for"});
  check_fails(1,
              [] {
                SIMT_SHARED(barrier, unsigned long long);
                SIMT_SHARED(tile, uint4[8]);
                ptx::mbarrier_init(simt::smem_address(&barrier), 1);
                ptx::bulk_copy(simt::smem_address(tile), source, 20, simt::smem_address(&barrier));
              },
              {"cp.async.bulk at", "no multiples of 16"});
}

// What a device of compute capability 9.0 has, for a scope.
struct WithAllSharedMemory {
  WithAllSharedMemory() { emu::set_shared_memory(emu::SharedMemory::kMax); }
  ~WithAllSharedMemory() { emu::set_shared_memory(emu::SharedMemory::kLeast); }
  WithAllSharedMemory(const WithAllSharedMemory&) = delete;
  WithAllSharedMemory& operator=(const WithAllSharedMemory&) = delete;
};

TEST_CASE("limits of a launch") {
  const Kernel nothing = [] {};
  check_fails(1025, nothing, {"block (1025, 1, 1) is empty or exceeds 1024 threads"});
  check_fails(0, nothing, {"block (0, 1, 1) is empty"});
  check_fails(1, nothing, {"exceed 101376"}, 99 * 1024 + 1);
  const WithAllSharedMemory all;
  check_fails(1, nothing, {"exceed 232448"}, 227 * 1024 + 1);
  CHECK(contains(message_of(dim3(1, 65536), dim3(1), nothing), "grid (1, 65536, 1) is empty or exceeds"));
  CHECK(contains(message_of(dim3(1, 1, 65536), dim3(1), nothing), "grid (1, 1, 65536) is empty or exceeds"));
  CHECK(contains(message_of(dim3(0), dim3(1), nothing), "grid (0, 1, 1) is empty or exceeds"));
  CHECK(contains(message_of(dim3(1), dim3(1, 1, 65), nothing), "exceeds 1024 threads, 64 of them in z"));
  check_fails(1,
              [] {
                SIMT_SHARED(large, char[48 * 1024 + 1]);
                large[0] = 0;
              },
              {"static shared memory exceed 49152"});
  check_fails(
      1,
      [] {
        SIMT_SHARED(more, char[16]);
        more[0] = 0;
      },
      {"dynamic and 16 of static shared memory exceed"}, 227 * 1024);
  const auto much_static = [] {
    SIMT_SHARED(more, char[16 * 1024 + 16]);
    more[0] = 0;
  };
  check_fails(1, much_static, {"32768 bytes of dynamic and 16400 of static", "only where more than 32768"},
              32 * 1024);
  CHECK(failure(1, much_static, 32 * 1024 + 16).empty());
  CHECK(failure(1024, nothing, 227 * 1024).empty());
}

TEST_CASE("streams that are none") {
  const Kernel nothing = [] {};
  cudaStream_t stream{};
  CHECK(cudaStreamCreate(&stream) == cudaSuccess);
  CHECK_NOTHROW(simt::launch(nothing, dim3(1), dim3(1), 0, stream));
  CHECK(cudaStreamDestroy(stream) == cudaSuccess);
  const std::string text = message_of(dim3(1), dim3(1), nothing, 0, stream);
  CAPTURE(text);
  CHECK(text.starts_with("[launch] at tests/emu/diagnostics_test.cpp:"));
  CHECK(text.ends_with(": the stream was not created, or was destroyed"));
  CHECK(cudaStreamSynchronize(stream) == cudaErrorInvalidResourceHandle);
  CHECK(cudaStreamDestroy(stream) == cudaErrorInvalidResourceHandle);
  CHECK(cudaGetLastError() == cudaErrorInvalidResourceHandle);
  CHECK(cudaGetLastError() == cudaSuccess);
}

TEST_CASE("__trap") {
  check_fails(64,
              [] {
                if (threadIdx.x == 33) __trap();
              },
              {"__trap() at", "thread (33,0,0)"});
}

TEST_CASE("shared memory begins undefined") {
  static float first[2], first_dynamic[2];
  simt::launch(
      +[] {
        SIMT_SHARED(x, float[2]);
        SIMT_DYNAMIC_SHARED(raw);
        first[blockIdx.x] = x[1];
        first_dynamic[blockIdx.x] = *reinterpret_cast<float*>(raw);
        x[1] = *reinterpret_cast<float*>(raw) = 1;  // the next block's is undefined again
      },
      dim3(2), dim3(1), 4, nullptr);
  for (const int block : {0, 1}) {
    CHECK(std::isnan(first[block]));
    CHECK(std::isnan(first_dynamic[block]));
  }
}

TEST_CASE("a missing barrier gives other bits in another order") {
#if LLSA_EMU_TSAN
  std::cout << "skipped: ThreadSanitizer reports the race\n";
#else
  static int copy[32];
  const Kernel kernel = [] {
    SIMT_SHARED(x, int[32]);
    x[threadIdx.x] = static_cast<int>(threadIdx.x);
    copy[threadIdx.x] = x[threadIdx.x ^ 1];
  };
  std::string seen[2];
  for (int i = 0; i < 2; ++i) {
    const emu::WithSettings in_order(emu::parse_order(i ? "rev" : "fwd"));
    simt::launch(kernel, dim3(1), dim3(32), 0, nullptr);
    for (const int x : copy) seen[i] += std::to_string(x) + " ";
  }
  CHECK(seen[0] != seen[1]);
  CHECK(contains(seen[0], "-1 0 -1 2"));  // even lanes read what is not there yet
  CHECK(contains(seen[1], "1 -1 3 -1"));
#endif
}

TEST_CASE("a failed launch unwinds the stacks of all threads") {
  static int alive = 0;
  struct Counted {
    Counted() { atomicAdd(&alive, 1); }
    ~Counted() { atomicAdd(&alive, -1); }
  };
  check_fails(96,
              [] {
                const Counted counted;
                __syncwarp();
                if (threadIdx.x == 70) __trap();
                __syncthreads();
              },
              {"__trap"});
  CHECK(alive == 0);
}

TEST_CASE("after a failed launch the next one works") {
  static int sum;
  for (int repeat = 0; repeat < 3; ++repeat) {
    check_fails(96,
                [] {
                  if (threadIdx.x < 90) __syncthreads();
                },
                {"__syncthreads"});
    sum = 0;
    simt::launch(
        +[] {
          __syncthreads();
          atomicAdd(&sum, 1);
          __syncthreads();
        },
        dim3(5), dim3(96), 0, nullptr);
    CHECK(sum == 5 * 96);
  }
}

TEST_SUITE_END();

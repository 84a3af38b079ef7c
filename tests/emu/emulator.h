// A CUDA device on the CPU, for tests: what tests may set and see. (Kernel files include simt.h of
// kernels/cuda/simt instead.)
//
//   kernel_api.h       what kernels see: built-in variables, launch; warp.h, atomics.h, intrinsics.h
//   ptx_api.h          what the wrappers of kernels/cuda/simt/ptx.h call
//   grid.cpp           a launch: OS threads take blocks from a counter
//   block.h            a block: its threads are fibers of one OS thread; barriers, collectives, deadlocks
//   shared.h           the block's shared memory
//   async.h            copies under way, mbarriers
//   tensor_core.cpp    ldmatrix, mma
//   fiber.h            stacks and switches
//   cuda_runtime.cpp   devices and errors; cuda_memory.cpp: memory; cuda_streams.cpp: streams and events
//   graph.cpp          stream capture: what is put into a stream is kept, and run by the graph's launches
//
// A thread of the block runs until it has to wait; then the next one that can run does. So a missing barrier
// shows as a wrong result in one of the orders, and under ThreadSanitizer, for which these are threads of
// their own, as a data race. Shared memory begins as NaN, and so does what cudaMalloc returns; both end at
// the exact byte under AddressSanitizer. What goes wrong inside a launch is thrown by it as KernelError and
// names the kernel's line, block and thread, and what every other thread was doing.
//
// Not emulated: time, weak memory order, bank conflicts, clusters, cooperative groups, textures, fp16 mma.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "../../core/error.h"

namespace llsa::emu {

/// A kernel that no device would run correctly, or a launch that no device would accept.
class KernelError : public CudaError {
  using CudaError::CudaError;
};

/// In which order the lanes of a block, and the blocks of a grid, take their turns.
enum class Order : std::uint8_t { forward, reverse, random };

struct Settings {
  Order order = Order::forward;
  std::uint64_t seed = 1;  // of Order::random
  int threads = 0;  // OS threads that run blocks; 0: as many as there are processors, at most 2 under TSan
};

/// "fwd", "rev" or "rnd:SEED" as in the environment variable SIMT_ORDER; other settings keep their
/// defaults. Throws ValueError for anything else.
Settings parse_order(const std::string& text);

/// The settings of later launches. At first those of SIMT_ORDER and SIMT_THREADS.
Settings settings();
void set_settings(const Settings& settings);

/// Settings for a scope.
class WithSettings {
 public:
  explicit WithSettings(const Settings& s) : before_(settings()) { set_settings(s); }
  ~WithSettings() { set_settings(before_); }
  WithSettings(const WithSettings&) = delete;
  WithSettings& operator=(const WithSettings&) = delete;

 private:
  Settings before_;
};

/// Bytes that cudaMalloc may hand out in all (0: no limit), for tests of running out of memory.
void set_device_memory(std::size_t bytes);
/// Bytes that cudaMalloc has handed out and cudaFree has not taken back.
std::size_t device_bytes_in_use();
/// How many devices cudaGetDeviceCount reports. At first 1.
void set_device_count(int count);
/// The CUDA version that the driver serves, as 1000 major + 10 minor; 0: there is no driver. At first the
/// toolkit's.
void set_driver_version(int version);
/// The major number of the devices' compute capability. At first 9.
void set_compute_capability(int major);
/// Bytes of shared memory that a block may have, static and dynamic together, at most 227 KiB as on 9.0. At first
/// the 99 KiB of 8.6, 8.9 and 12.0, so that it is seen when a kernel comes to need more. A multiprocessor has 1 KiB
/// more, as on all devices.
void set_shared_memory(std::size_t bytes);
/// Lets every call of the runtime fail with this error (a cudaError_t), as after a kernel that has gone
/// wrong; 0 ends it.
void break_device(int error);
/// Lets the next call of this function of cuBLASLt or cuDNN, or the next "launch" of a kernel, do nothing and
/// return this status (of the library, or a cudaError_t); with a device_error that moment also breaks the
/// device. "" takes the wish back.
void fail_next(const std::string& function, int status, int device_error = 0);

/// How long the matrix products of each of the library's algorithms shall seem to take, in the order in which
/// they are proposed; what is not told takes as long as it does.
void set_product_times(const std::vector<double>& milliseconds);
/// By which of these algorithms the products since the last question were computed, in call order.
std::vector<int> products_since_last_asked();

/// Counts since the program started.
struct Statistics {
  std::uint64_t launches = 0;
  std::uint64_t blocks = 0;
  std::uint64_t switches = 0;
};
Statistics statistics();

}  // namespace llsa::emu

// What the emulated instructions are made of: entry points from a running lane into the emulator.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <functional>

#include "../../kernels/cuda/simt/launch_stream.h"

namespace llsa::emu {

/// A line of a kernel. Emulated instructions take one as their last argument, by default the caller's.
using Place = cuda::Place;

/// Ends the launch with a KernelError: printf-like text, to which place and state of all threads are added.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

/// The calling thread's lane in its warp, 0..31.
unsigned lane_id();

/// Computes a collective for all its lanes at once: slots[i] is lane i's operand, for the lanes in `lanes`.
using Collective = void (*)(void* const* slots, std::uint32_t lanes);

/// Waits until all lanes of `mask` have come here, then `compute` has seen everyone's `operand`. A lane
/// that comes to another collective, or that has ended, makes the launch fail. Orders no memory accesses.
void warp_collective(std::uint32_t mask, Collective compute, void* operand, const char* what, Place place);

/// __syncwarp: a collective that does order memory accesses.
void warp_barrier(std::uint32_t mask, Place place);

/// Barrier `id` for `threads` threads (0: all of the block). Returns how many came with a true predicate.
int block_barrier(int id, int threads, bool predicate, const char* what, Place place);

/// A fence of device scope: orders this lane's accesses with those of other blocks.
void fence();

// ---- shared memory ------------------------------------------------------------------------------------

/// The block's dynamic shared memory, aligned to 128 bytes and to no more.
unsigned char* dynamic_shared();
/// The block's array of the declaration that `key` stands for.
void* static_shared(const void* key, std::size_t bytes, std::size_t alignment);
/// Address in the shared window of a pointer into this block's shared memory.
unsigned shared_address(const void* p);
/// Inverse of shared_address, for `bytes` bytes; fails for addresses outside, or not multiples of
/// `alignment`.
unsigned char* shared_pointer(unsigned address, std::size_t bytes, std::size_t alignment, const char* what,
                              Place place);

// ---- launching ----------------------------------------------------------------------------------------

/// Runs body() once per thread of the grid: now, or, if the stream is being captured, in every replay of the
/// graph. Throws KernelError; CudaError, as simt::launch does on a device, for what a call of the runtime
/// would return.
void run_grid(dim3 grid, dim3 block, std::size_t shared_bytes, simt::LaunchStream to,
              std::function<void()> body);

}  // namespace llsa::emu

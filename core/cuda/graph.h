// CUDA graphs: work that is captured once and launched as a whole, without the host's share of every kernel.
//
// A replay runs the captured commands again, with the arguments that they were captured with: the same
// kernels, the same addresses, the same numbers. So what changes between replays has to live in tensors that
// were there before the capture and are still there at the replay, and be written to between replays. Memory
// that was allocated during the capture stays the graph's own as long as it lives (Allocator::open_pool).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "../context.h"
#include "../function_ref.h"

namespace llsa::cuda {

class Graph {
 public:
  /// Captures all that work() puts into the context's stream; nothing of it runs. The calling thread may
  /// allocate meanwhile, other threads may use the device. Should have run before: what libraries and modules
  /// prepare at their first use cannot be captured. Throws DeviceError on the CPU; CudaError for a command
  /// that cannot be captured (one that waits for the device, or copies from the host) and when a tensor that
  /// was there before was freed in work(); whatever work() throws. After an exception the context can be used
  /// as before, and there is no graph.
  Graph(Context& ctx, FunctionRef<void()> work);
  ~Graph();  // NOLINT(performance-trivially-destructible): not so where there is CUDA
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  /// Puts the captured work into the stream. Tensors made in the capture hold its results afterwards.
  void launch();
  /// Kernels, copies and fills.
  std::size_t size() const { return size_; }

 private:
  std::shared_ptr<Stream> stream_;
  std::shared_ptr<Allocator> allocator_;
  [[maybe_unused]] std::uint64_t pool_ = 0;
  [[maybe_unused]] void* executable_ = nullptr;  // a cudaGraphExec_t
  std::size_t size_ = 0;
};

}  // namespace llsa::cuda

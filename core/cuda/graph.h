// CUDA graphs: work that is captured once and then launched as a whole, which saves the host's time per kernel.
//
// A replay runs the captured commands again with the same arguments: the same kernels, addresses and numbers. So
// whatever changes between replays has to live in tensors. They must exist before the capture and live as long as
// the graph; write to them between replays. Memory that was allocated during the capture belongs to the graph as
// long as it lives (Allocator::open_pool).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "../context.h"
#include "../function_ref.h"

namespace llsa::cuda {

class Graph {
 public:
  /// Captures all that work() puts into the context's stream; nothing of it runs. Run work() once before: what
  /// libraries and modules prepare at their first use cannot be captured. During the capture the calling thread
  /// may allocate, and other threads may use the device. Throws DeviceError on the CPU. Throws CudaError for a
  /// command that cannot be captured (it waits for the device, or copies from the host), and if work() frees a
  /// tensor that was allocated before. Passes on what work() throws. After an exception there is no graph, and the
  /// context can be used as before.
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

// Context: everything a kernel needs besides its tensors. There is no global current device.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "allocator.h"
#include "device.h"
#include "tensor.h"
#include "thread_pool.h"

namespace llsa {

/// Device, allocator, threads. Kernels of one context run in call order. Not copyable: pass it by reference;
/// it must outlive the graphs recorded with it, not the tensors.
class Context {
 public:
  /// A CPU context; threads as in ThreadPool, memory_limit as in make_cpu_allocator.
  explicit Context(int threads = 0, std::size_t memory_limit = 0);
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  Device device() const { return allocator_->device(); }
  ThreadPool& pool() { return pool_; }
  const std::shared_ptr<Allocator>& allocator() const { return allocator_; }

  /// Uninitialised tensor on this device.
  Tensor empty(const Shape& shape, DType dtype) { return Tensor::empty(shape, dtype, allocator_); }
  Tensor empty_like(const Tensor& like) { return empty(like.shape(), like.dtype()); }
  /// Zero-filled tensor on this device.
  Tensor zeros(const Shape& shape, DType dtype);

  /// Reads the only element of a tensor. This is the one place where the host waits for the device, and it is
  /// counted. Throws ShapeError unless the tensor has one element.
  double item(const Tensor& tensor);
  /// How often item() was called: a training step that is not logged must not raise it.
  std::uint64_t synchronizations() const { return synchronizations_; }

 private:
  ThreadPool pool_;
  std::shared_ptr<Allocator> allocator_;
  std::atomic<std::uint64_t> synchronizations_ = 0;
};

}  // namespace llsa

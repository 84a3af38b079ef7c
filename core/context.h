// Context: everything a kernel needs besides its tensors. There is no global current device.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "allocator.h"
#include "cuda/device.h"
#include "device.h"
#include "tensor.h"
#include "thread_pool.h"

namespace llsa {

/// Device, allocator, threads, and on a CUDA device the stream. Kernels of one context run in the order of the
/// calls. Kernels of two contexts are not ordered, even on one CUDA device: pass a tensor on by
/// kernels::transfer. A context cannot be copied; pass it by reference. It must outlive the graphs that are
/// recorded with it. Tensors may outlive it. One thread at a time uses a context.
class Context {
 public:
  /// A context on the CPU. For `threads` see ThreadPool, for `memory_limit` make_cpu_allocator.
  explicit Context(int threads = 0, std::size_t memory_limit = 0);
  /// A context on any device. Throws DeviceError if the device does not exist.
  explicit Context(Device device, int threads = 0, std::size_t memory_limit = 0);
  /// A context whose work goes into a stream of the caller's:
  ///     Context ctx(std::make_shared<cuda::Stream>(0, my_cuda_stream));
  /// It is ordered with what the caller puts there. Throws ValueError for a null pointer.
  explicit Context(std::shared_ptr<cuda::Stream> stream, int threads = 0, std::size_t memory_limit = 0);
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  Device device() const { return allocator_->device(); }
  ThreadPool& pool() { return pool_; }
  const std::shared_ptr<Allocator>& allocator() const { return allocator_; }
  /// The stream in which this context's work is ordered, as a cudaStream_t; null on the CPU. The device
  /// becomes the calling thread's current one. (Where the caller's stream is the default one, it is null, too.)
  void* stream() const { return stream_ ? stream_->handle() : nullptr; }
  /// The same stream as an object, which events and other streams need; null on the CPU.
  const std::shared_ptr<cuda::Stream>& cuda_stream() const { return stream_; }

  /// Uninitialised tensor on this device.
  Tensor empty(const Shape& shape, DType dtype) { return Tensor::empty(shape, dtype, allocator_); }
  Tensor empty_like(const Tensor& like) { return empty(like.shape(), like.dtype()); }
  /// Zero-filled tensor on this device.
  Tensor zeros(const Shape& shape, DType dtype);

  /// Copy host memory to a contiguous tensor of this device, and back. The host memory may be reused as soon as
  /// the call returns. download() waits for a CUDA device, and synchronizations() counts this. While a graph is
  /// captured, these two, item() and synchronize() throw CudaError: a graph cannot replay what the host does.
  void upload(const void* host, const Tensor& to);
  void download(const Tensor& from, void* host);

  /// Reads the only element of a tensor. The host waits for the device, and synchronizations() counts this.
  /// Throws ShapeError unless the tensor has one element.
  double item(const Tensor& tensor);
  /// Waits until all work of this context is done. Throws CudaError if any of it failed.
  void synchronize();
  /// How often the host waited for this context's work. A training step that is not logged must not raise it.
  /// Waits for a copy from pinned memory (nn/data/batch_upload.h) and for device memory are not counted.
  std::uint64_t synchronizations() const { return synchronizations_; }

  /// Whether products of f32 matrices on a CUDA device may round their operands to TF32 (10 bits of mantissa),
  /// which is much faster. Off by default. The CPU ignores it.
  bool tf32() const { return tf32_; }
  void allow_tf32(bool allowed) { tf32_ = allowed; }

  /// What a backend keeps between calls: handles of libraries and their workspaces. It is empty at first. Only
  /// the backend of this device uses it.
  std::shared_ptr<void>& backend_state() { return backend_state_; }

 private:
  void check_transfer(const char* where, const Tensor& tensor) const;
  void refuse_in_capture(const char* where) const;

  ThreadPool pool_;
  std::shared_ptr<cuda::Stream> stream_;  // null on the CPU
  std::shared_ptr<Allocator> allocator_;
  std::atomic<std::uint64_t> synchronizations_ = 0;
  bool tf32_ = false;
  std::shared_ptr<void> backend_state_;  // destroyed first: it holds memory of the allocator
};

}  // namespace llsa

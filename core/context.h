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

/// Device, allocator, threads, and on a CUDA device the stream. Kernels of one context run in call order.
/// Those of two contexts do not, even on one CUDA device: give a tensor to another by kernels::transfer. Not
/// copyable: pass it by reference; it must outlive the graphs recorded with it, not the tensors.
class Context {
 public:
  /// A CPU context; threads as in ThreadPool, memory_limit as in make_cpu_allocator.
  explicit Context(int threads = 0, std::size_t memory_limit = 0);
  /// A context on any device. Throws DeviceError for one that is not there.
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
  /// The same as an object, for events and for streams beside it; null on the CPU.
  const std::shared_ptr<cuda::Stream>& cuda_stream() const { return stream_; }

  /// Uninitialised tensor on this device.
  Tensor empty(const Shape& shape, DType dtype) { return Tensor::empty(shape, dtype, allocator_); }
  Tensor empty_like(const Tensor& like) { return empty(like.shape(), like.dtype()); }
  /// Zero-filled tensor on this device.
  Tensor zeros(const Shape& shape, DType dtype);

  /// Host memory to a contiguous tensor of this device, and back. The host memory may be reused when the call
  /// returns. download() waits for the device, and is counted where there is one. While a graph is captured
  /// these, item() and synchronize() throw CudaError: a graph cannot replay what the host does.
  void upload(const void* host, const Tensor& to);
  void download(const Tensor& from, void* host);

  /// Reads the only element of a tensor. Here and in download() the host waits for the device, and this is
  /// counted. Throws ShapeError unless the tensor has one element.
  double item(const Tensor& tensor);
  /// Waits until all work of this context is done. Throws CudaError for whatever failed in it.
  void synchronize();
  /// How often the host waited for this context's work: a training step that is not logged must not raise it.
  /// Not counted: waits for a copy from pinned memory (nn/data/batch_upload.h), and for memory of the device.
  std::uint64_t synchronizations() const { return synchronizations_; }

  /// Whether products of f32 matrices on a CUDA device may round their operands to TF32 (10 bits of
  /// mantissa): faster by far, off unless asked for. The CPU does not look at it.
  bool tf32() const { return tf32_; }
  void allow_tf32(bool allowed) { tf32_ = allowed; }

  /// What a backend keeps between calls: handles of libraries, their workspaces. Empty at first; only the
  /// backend of this device looks into it.
  std::shared_ptr<void>& backend_state() { return backend_state_; }

 private:
  void check_transfer(const char* where, const Tensor& tensor) const;
  void refuse_in_capture(const char* where) const;

  ThreadPool pool_;
  std::shared_ptr<cuda::Stream> stream_;  // null on the CPU
  std::shared_ptr<Allocator> allocator_;
  std::atomic<std::uint64_t> synchronizations_ = 0;
  bool tf32_ = false;
  std::shared_ptr<void> backend_state_;  // goes first: it holds memory of the allocator
};

}  // namespace llsa

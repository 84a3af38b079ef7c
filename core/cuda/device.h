// CUDA devices as the rest of the library sees them. In a build without CUDA these functions report no device or
// throw DeviceError (core/cuda_absent.cpp). This header needs no CUDA header.
//
// All work of a context goes to one stream. This is why a block that the host has freed can be handed out again at
// once: whatever still reads it was put into the stream before whatever will write it.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "../allocator.h"

namespace llsa::cuda {

/// Whether this build has the CUDA backend.
bool compiled();
/// Devices; 0 without a driver, without a device, and in a build without CUDA.
int device_count();

/// Why a device cannot be used.
struct DeviceObstacle {
  std::string reason;   ///< "there is no NVIDIA driver"; empty if the device can be used
  std::string hint;     ///< what to do about it
  bool absent = false;  ///< no CUDA in this build, no driver, or no device
};
/// Throws CudaError for an unexpected error of the CUDA runtime.
DeviceObstacle device_obstacle(int index);

struct DeviceProperties {
  std::string name;
  int major = 0, minor = 0;  ///< compute capability
  int processors = 0;        ///< streaming multiprocessors
  std::size_t memory = 0;    ///< total bytes
};
/// Throws DeviceError if the device cannot be used: no CUDA in this build, no driver or an old one, no device, an
/// index that is too large, a device older than compute capability 8.0.
DeviceProperties device_properties(int index);

/// Waits for all work of a device, whatever stream it is in, and copies from its memory. Throws CudaError.
void download(int index, const void* device, void* host, std::size_t bytes);

/// An ordered queue of work on one device.
class Stream {
 public:
  /// Makes a stream. Throws DeviceError as device_properties does, CudaError.
  explicit Stream(int index);
  /// Uses the caller's cudaStream_t of that device; null is the default stream. It must outlive all work that is
  /// put into it, and is not destroyed here. Throws as the other constructor.
  Stream(int index, void* handle);
  ~Stream();  // NOLINT(performance-trivially-destructible): not so where there is CUDA
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  int index() const { return index_; }
  /// A cudaStream_t. Also makes the device the calling thread's current one, so that the next launch goes there.
  void* handle() const;
  /// Waits until all work in the stream is done. Throws CudaError if any of it failed.
  void synchronize() const;
  /// Whether the stream is being captured: its work becomes part of a graph (core/cuda/graph.h) and does not run.
  bool capturing() const;
  /// Whether the device can read ordinary host memory, as beside a Grace processor.
  bool reads_host_memory() const { return reads_host_memory_; }

  /// Copies between host and device memory, and fills. All are ordered in the stream. upload() may return before
  /// the copy is made if the host memory is pinned or reads_host_memory() is true. download() waits.
  void upload(const void* host, void* device, std::size_t bytes) const;
  void download(const void* device, void* host, std::size_t bytes) const;
  void copy(const void* from, void* to, std::size_t bytes) const;
  void fill(void* device, unsigned char value, std::size_t bytes) const;

 private:
  int index_;
  bool reads_host_memory_ = false;
  [[maybe_unused]] void* handle_ = nullptr;
  [[maybe_unused]] bool owned_ = false;  // made, and to be destroyed, here
};

/// A point in a stream that can be waited for. Before the first record(), waiting returns at once. (A Stopwatch
/// measures time.)
class Event {
 public:
  Event();
  ~Event();  // NOLINT(performance-trivially-destructible)
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record(const Stream& stream);
  /// Lets another stream wait for the recorded point; the host does not wait.
  void block(const Stream& stream) const;
  void synchronize() const;

 private:
  [[maybe_unused]] void* handle_ = nullptr;
};

/// Page-locked host memory. Copies run beside kernels only from and to such memory.
class PinnedBuffer {
 public:
  explicit PinnedBuffer(std::size_t bytes);
  ~PinnedBuffer();  // NOLINT(performance-trivially-destructible)
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;

  std::byte* data() const { return static_cast<std::byte*>(data_); }
  std::size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  std::size_t bytes_;
};

/// Caching allocator of device memory for work in one stream, which it keeps alive. `limit` bounds active + cached
/// bytes; 0 means the memory of the device. Blocks are aligned to 256 bytes.
std::shared_ptr<Allocator> make_allocator(std::shared_ptr<Stream> stream, std::size_t limit = 0);

}  // namespace llsa::cuda

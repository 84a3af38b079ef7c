// Time of spans of work in a stream, measured by the device itself.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace llsa::cuda {

class Stopwatch {
 public:
  /// stream: a cudaStream_t of the calling thread's current device, which has to outlive this. Throws
  /// DeviceError in a build without CUDA.
  /// Marks of the first `spans` spans are made here, so that making them is no part of a span.
  explicit Stopwatch(void* stream, std::size_t spans = 0);
  ~Stopwatch();
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

  /// Put marks into the stream, in turns; the host does not wait. Throw CudaError.
  void start();
  void stop();
  /// Seconds of each span since the last call of this, in order. Waits for the end of the last one. Throws
  /// CudaError for whatever failed in the stream.
  std::vector<double> seconds();
  /// Forgets all spans, a half one too: after work between the marks has failed.
  void forget();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace llsa::cuda

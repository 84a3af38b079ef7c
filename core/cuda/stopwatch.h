// Time of spans of work in a stream, measured by the device itself.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace llsa::cuda {

class Stopwatch {
 public:
  /// stream: a cudaStream_t of the calling thread's current device, which has to outlive this. The marks of the
  /// first `spans` spans are made here, so that no span includes the making of its marks. Throws DeviceError in
  /// a build without CUDA.
  explicit Stopwatch(void* stream, std::size_t spans = 0);
  ~Stopwatch();
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

  /// Put marks into the stream, alternately. The host does not wait. Throw CudaError.
  void start();
  void stop();
  /// Seconds of each span since the last call of this function, in order. Waits for the end of the last span.
  /// Throws CudaError if work in the stream has failed.
  std::vector<double> seconds();
  /// Forgets all spans, also one that was only started. For use after work between the marks has failed.
  void forget();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace llsa::cuda

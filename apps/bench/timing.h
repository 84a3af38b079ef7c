// Timing of `llsa bench`: by the clock on the CPU, by events in the context's stream on a CUDA device.
//
// On a device, each call stands between two events and is preceded by a write over four times the L2 cache,
// so that nothing of the call before it is found there; while the device writes, the host puts the call's
// kernels into the stream, so that its own pace does not show. The host waits once per batch of calls.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "core/context.h"
#include "core/cuda/stopwatch.h"
#include "core/function_ref.h"

namespace llsa::apps {

/// Seconds of one call: quantiles by nearest rank.
struct Timing {
  double median = 0, least = 0;
  double p20 = 0, p80 = 0;
  int calls = 0;
};

/// Of at least one sample, in any order.
Timing summarize(std::vector<double> seconds);

/// A call, told which one it is, counted from 0 over the life of the timer: for rotating inputs.
using TimedCall = std::function<void(int)>;

/// Four times the L2 cache of a large GPU.
constexpr std::int64_t kFlushBytes = std::int64_t{256} << 20;

class CallTimer {
 public:
  /// flush_bytes: written and read between the calls on a CUDA device.
  explicit CallTimer(Context& ctx, std::int64_t flush_bytes = kFlushBytes);

  /// Seconds of each of `calls` calls, in order.
  std::vector<double> run(FunctionRef<void(int)> call, int calls);

 private:
  std::vector<double> run_on_cpu(FunctionRef<void(int)> call, int calls);
  std::vector<double> run_on_device(FunctionRef<void(int)> call, int calls);

  Context& ctx_;
  std::unique_ptr<cuda::Stopwatch> stopwatch_;  // on a CUDA device
  std::int64_t flush_bytes_;
  Tensor flush_;
  int next_ = 0;
};

/// How long to go on.
struct TimingLimits {
  int calls = 30;         ///< timed calls wanted
  double seconds = 2;     ///< in which they are to be done; at least three are made all the same
  double warm_up = 0.05;  ///< seconds of untimed calls, of which there is at least one and at most 25
};

/// Times the calls in three rounds that go through all of them, so that a clock that drifts meets all alike.
std::vector<Timing> time_interleaved(CallTimer& timer, const std::vector<TimedCall>& calls,
                                     const TimingLimits& limits);
/// The same for one.
Timing time_calls(CallTimer& timer, const TimedCall& call, const TimingLimits& limits);

}  // namespace llsa::apps

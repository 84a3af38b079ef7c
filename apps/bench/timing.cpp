#include "apps/bench/timing.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "kernels/reduce.h"

namespace llsa::apps {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kRounds = 3;
constexpr int kMostWarmUp = 25;

}  // namespace

Timing summarize(std::vector<double> seconds) {
  if (seconds.empty()) throw ValueError("[summarize] expected at least one sample, got none");
  std::sort(seconds.begin(), seconds.end());
  const auto quantile = [&](double share) {
    const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(seconds.size())));
    return seconds[std::max<std::size_t>(rank, 1) - 1];
  };
  return {quantile(0.5), seconds.front(), quantile(0.2), quantile(0.8), static_cast<int>(seconds.size())};
}

CallTimer::CallTimer(Context& ctx, std::int64_t flush_bytes) : ctx_(ctx), flush_bytes_(flush_bytes) {
  if (ctx.device().is_cpu()) return;
  stopwatch_ = std::make_unique<cuda::Stopwatch>(ctx.stream());
  flush_ = ctx.empty({flush_bytes / 4}, DType::f32);
}

std::vector<double> CallTimer::run(FunctionRef<void(int)> call, int calls) {
  return stopwatch_ ? run_on_device(call, calls) : run_on_cpu(call, calls);
}

std::vector<double> CallTimer::run_on_cpu(FunctionRef<void(int)> call, int calls) {
  std::vector<double> seconds;
  for (int i = 0; i < calls; ++i) {
    const auto start = Clock::now();
    call(next_++);
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  return seconds;
}

std::vector<double> CallTimer::run_on_device(FunctionRef<void(int)> call, int calls) {
  try {
    for (int i = 0; i < calls; ++i) {
      flush_ = {};
      flush_ = ctx_.zeros({flush_bytes_ / 4}, DType::f32);  // the same block, by a memset
      kernels::sum(ctx_, flush_, {});  // and read, so that nothing written is left to be written back
      stopwatch_->start();
      call(next_++);
      stopwatch_->stop();
    }
    ctx_.synchronize();
    return stopwatch_->seconds();
  } catch (...) {
    stopwatch_->forget();  // what was timed may have run out of memory; the next may fit
    throw;
  }
}

std::vector<Timing> time_interleaved(CallTimer& timer, const std::vector<TimedCall>& calls,
                                     const TimingLimits& limits) {
  std::vector<int> per_round;
  for (const TimedCall& call : calls) {
    double once = timer.run(call, 1).front();  // pays for whatever the first call alone has to do
    if (once < limits.seconds / kRounds) once = timer.run(call, 1).front();
    once = std::max(once, 1e-7);
    const double warm = std::min(limits.warm_up / once - 1, static_cast<double>(kMostWarmUp - 2));
    if (warm >= 1) timer.run(call, static_cast<int>(warm));
    const double fitting = std::min(limits.seconds / (kRounds * once), std::ceil(limits.calls / 3.0));
    per_round.push_back(std::max(1, static_cast<int>(fitting)));
  }
  std::vector<std::vector<double>> samples(calls.size());
  for (int round = 0; round < kRounds; ++round) {
    for (std::size_t i = 0; i < calls.size(); ++i) {
      const std::vector<double> more = timer.run(calls[i], per_round[i]);
      samples[i].insert(samples[i].end(), more.begin(), more.end());
    }
  }
  std::vector<Timing> timings;
  for (std::vector<double>& sample : samples) timings.push_back(summarize(std::move(sample)));
  return timings;
}

Timing time_calls(CallTimer& timer, const TimedCall& call, const TimingLimits& limits) {
  return time_interleaved(timer, {call}, limits).front();
}

}  // namespace llsa::apps

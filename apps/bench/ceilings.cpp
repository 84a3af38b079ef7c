#include "apps/bench/ceilings.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "apps/bench/bench.h"
#include "apps/bench/timing.h"
#include "kernels/backend.h"
#include "kernels/copy.h"
#include "kernels/matmul.h"
#include "kernels/random.h"

namespace llsa::apps {
namespace {

// As wide as the processor's registers: 16 floats with AVX-512, 4 with NEON, else 8.
#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__aarch64__)
constexpr int kLanes = 4;
#else
constexpr int kLanes = 8;
#endif
using Lanes [[gnu::vector_size(kLanes * sizeof(float))]] = float;

// Twelve chains hide the latency of the multiply-add on every processor with two such units.
float multiply_add_loop(std::int64_t rounds, float start) {
  constexpr int kChains = 12;
  Lanes chain[kChains];
  for (int i = 0; i < kChains; ++i) chain[i] = Lanes{} + (start + static_cast<float>(i));
  const Lanes factor = Lanes{} + 0.999f, term = Lanes{} + 1e-3f;
  for (std::int64_t r = 0; r < rounds; ++r) {
    for (Lanes& value : chain) value = value * factor + term;
  }
  float sum = 0;
  for (const Lanes& value : chain) sum += value[0];
  return sum;
}
constexpr double kFlopsPerRound = 12.0 * kLanes * 2;

/// GFLOP/s, the best of several runs.
double fma_peak(Context& ctx) {
  using Clock = std::chrono::steady_clock;
  constexpr std::int64_t kRounds = 200'000;
  const std::int64_t chunks = 16 * ctx.pool().threads();
  std::vector<float> sink(static_cast<std::size_t>(chunks));
  double best = 0;
  for (int run = 0; run < 7; ++run) {
    const auto start = Clock::now();
    ctx.pool().parallel_for(chunks, [&](std::int64_t chunk) {
      sink[static_cast<std::size_t>(chunk)] = multiply_add_loop(kRounds, static_cast<float>(chunk));
    });
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    best = std::max(best, static_cast<double>(chunks * kRounds) * kFlopsPerRound / seconds / 1e9);
  }
  const bool all_finite = std::all_of(sink.begin(), sink.end(), [](float x) { return std::isfinite(x); });
  if (!all_finite) throw Error("the multiply-add loop gave a value that is not finite");
  return best;
}

/// GFLOP/s of side^3: the fastest call on the CPU, which other programs share, the median on a device.
double product_peak(Context& ctx, CallTimer& timer, std::int64_t side, DType dtype, double seconds) {
  const Tensor a = kernels::random_normal(ctx, {side, side}, dtype, 1, 0);
  const Tensor b = kernels::random_normal(ctx, {side, side}, dtype, 1, 1);
  const Timing timing = time_calls(timer, [&](int) { kernels::matmul(ctx, a, b); }, {9, seconds});
  const double n = static_cast<double>(side);
  return 2 * n * n * n / (ctx.device().is_cuda() ? timing.median : timing.least) / 1e9;
}

/// GB/s: the library's copy or the driver's, whichever is faster.
double copy_peak(Context& ctx, CallTimer& timer, std::int64_t bytes, double seconds) {
  const Tensor from = ctx.zeros({bytes}, DType::u8), to = ctx.empty({bytes}, DType::u8);
  const Timing ours = time_calls(timer, [&](int) { kernels::copy(ctx, from, to); }, {30, seconds});
  double least = ours.median;
  const cuda::Stream stream(ctx.device().index);
  cuda::Stopwatch stopwatch(stream.handle());
  for (int i = 0; i < 10; ++i) {
    stopwatch.start();
    stream.copy(from.raw(), to.raw(), static_cast<std::size_t>(bytes));
    stopwatch.stop();
  }
  least = std::min(least, summarize(stopwatch.seconds()).median);
  return 2 * static_cast<double>(bytes) / least / 1e9;
}

void require_all(Context& ctx, const char* what, const Tensor& out, double expected, double most) {
  for (const float value : kernels::to_vector<float>(ctx, out))
    require_correct(what, std::abs(static_cast<double>(value) - expected), most);
}

double mma_peak(Context& ctx, CallTimer& timer, std::int64_t threads, const CeilingSizes& sizes) {
  const Tensor out = ctx.empty({threads}, DType::f32);
  const Timing timing =
      time_calls(timer, [&](int) { kernels::backend(ctx).ceilings.mma_loop(ctx, sizes.rounds, out); },
                 {30, sizes.seconds});
  require_all(ctx, "the sum of the mma.sync loop", out, static_cast<double>(sizes.rounds) / 2, 0);
  return kernels::mma_loop_flops(threads, sizes.rounds) / timing.median / 1e9;
}

double exp2_peak(Context& ctx, CallTimer& timer, std::int64_t threads, const CeilingSizes& sizes) {
  constexpr double kFixedPoint = 0.6411857445049859;
  const Tensor out = ctx.empty({threads}, DType::f32);
  const Timing timing =
      time_calls(timer, [&](int) { kernels::backend(ctx).ceilings.exp2_loop(ctx, sizes.rounds, out); },
                 {30, sizes.seconds});
  require_all(ctx, "the sum of the exp2 loop", out, kernels::kCeilingChains * kFixedPoint, 1e-4);
  return kernels::exp2_loop_count(threads, sizes.rounds) / timing.median / 1e9;
}

GatherRate gather_peak(Context& ctx, CallTimer& timer, std::int64_t threads, std::int64_t megabytes,
                       const CeilingSizes& sizes) {
  const std::int64_t blocks = (megabytes << 20) / (4 * kernels::kGatherWords);
  const Tensor set = ctx.empty({blocks, kernels::kGatherWords}, DType::i32),
               out = ctx.empty({threads}, DType::i32);
  kernels::fill(ctx, set, 3);
  // The set is brought into the L2 cache by the first half of the call itself: the timer has emptied it.
  const std::int64_t rounds = sizes.gather_rounds;
  const std::vector<Timing> timings = time_interleaved(
      timer,
      {[&](int) { kernels::backend(ctx).ceilings.gather_loop(ctx, set, rounds, false, out); },
       [&](int) { kernels::backend(ctx).ceilings.gather_loop(ctx, set, rounds, true, out); }},
      {30, sizes.seconds});
  require_all(ctx, "the sum of the gather loop", out, 3 * static_cast<double>(rounds), 0);
  const double bytes = kernels::gather_loop_bytes(threads, rounds);
  return {megabytes << 20, bytes / timings[0].median / 1e9, bytes / timings[1].median / 1e9};
}

}  // namespace

Ceilings measure_ceilings(Context& ctx, DType dtype, const CeilingSizes& sizes) {
  CallTimer timer(ctx, sizes.flush_bytes);
  Ceilings ceilings;
  if (ctx.device().is_cpu()) {
    ceilings.fma = fma_peak(ctx);
    ceilings.matmul = product_peak(ctx, timer, sizes.cpu_side, dtype, 4.0);
    return ceilings;
  }
  // 16 warps of a multiprocessor for arithmetic, 24 for gathers: three blocks of 64 KiB of shared memory.
  const std::int64_t processors = cuda::device_properties(ctx.device().index).processors;
  const std::int64_t block = kernels::kCeilingThreads;
  ceilings.copy = copy_peak(ctx, timer, sizes.copy_bytes, sizes.seconds);
  ceilings.matmul = product_peak(ctx, timer, sizes.side, dtype, sizes.seconds);
  ceilings.mma = mma_peak(ctx, timer, 2 * processors * block, sizes);
  ceilings.exp2 = exp2_peak(ctx, timer, 2 * processors * block, sizes);
  for (const std::int64_t megabytes : sizes.gather_mb)
    ceilings.gather.push_back(gather_peak(ctx, timer, 3 * processors * block, megabytes, sizes));
  return ceilings;
}

std::vector<std::string> describe(const Ceilings& c) {
  if (c.mma == 0)
    return {text("ceilings: multiply-add %.0f GFLOP/s, matrix product %.0f GFLOP/s (%.0f %% of it)", c.fma,
                 c.matmul, 100 * c.matmul / c.fma)};
  std::vector<std::string> lines = {
      text("ceilings: matrix product %.0f TFLOP/s, mma.sync %.0f TFLOP/s, exp2 %.2f T/s, copy %.0f GB/s",
           1e-3 * c.matmul, 1e-3 * c.mma, 1e-3 * c.exp2, c.copy)};
  for (const GatherRate& g : c.gather)
    lines.push_back(text("          2 KiB blocks out of %lld MiB: %.0f GB/s past L1, %.0f GB/s through L1",
                         static_cast<long long>(g.bytes >> 20), g.past_l1, g.through_l1));
  return lines;
}

void add_ceilings(nn::JsonWriter& json, const Ceilings& c) {
  json.add("matmul_gflops", c.matmul);
  if (c.mma == 0) {
    json.add("fma_gflops", c.fma);
    return;
  }
  json.add("mma_gflops", c.mma).add("exp2_per_ns", c.exp2).add("copy_gb_per_second", c.copy);
  for (const GatherRate& g : c.gather)
    json.add(cat("gather_", g.bytes >> 20, "_mib_gb_per_second"),
             nn::JsonWriter().add("past_l1", g.past_l1).add("through_l1", g.through_l1));
}

}  // namespace llsa::apps

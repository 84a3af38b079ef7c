#include "apps/bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdarg>
#include <cstdio>

#include "core/atomic_file.h"
#include "core/cpu_check.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/matmul.h"
#include "kernels/random.h"
#include "kernels/reduce.h"

namespace llsa::apps {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// As wide as the processor's registers: 16 floats with AVX-512, else 8.
#ifdef __AVX512F__
constexpr int kLanes = 16;
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

}  // namespace

double measure_fma_peak(Context& ctx) {
  constexpr std::int64_t kRounds = 200'000;
  const std::int64_t chunks = 16 * ctx.pool().threads();
  std::vector<float> sink(static_cast<std::size_t>(chunks));
  double best = 0;
  for (int run = 0; run < 7; ++run) {
    const auto start = Clock::now();
    ctx.pool().parallel_for(chunks, [&](std::int64_t chunk) {
      sink[static_cast<std::size_t>(chunk)] = multiply_add_loop(kRounds, static_cast<float>(chunk));
    });
    best =
        std::max(best, static_cast<double>(chunks * kRounds) * kFlopsPerRound / seconds_since(start) / 1e9);
  }
  const bool all_finite = std::all_of(sink.begin(), sink.end(), [](float x) { return std::isfinite(x); });
  if (!all_finite) throw Error("the multiply-add loop gave a value that is not finite");
  return best;
}

double measure_matmul_peak(Context& ctx) {
  constexpr std::int64_t kSide = 1536;
  const Tensor a = kernels::random_normal(ctx, {kSide, kSide}, DType::f32, 1, 0);
  const Tensor b = kernels::random_normal(ctx, {kSide, kSide}, DType::f32, 1, 1);
  const Timing timing = time_calls([&] { kernels::matmul(ctx, a, b); }, 9);
  return 2.0 * kSide * kSide * kSide / timing.least / 1e9;
}

Timing time_calls(FunctionRef<void()> body, int runs, double seconds) {
  body();
  std::vector<double> times;
  const auto begin = Clock::now();
  while (times.size() < 3 || (static_cast<int>(times.size()) < runs && seconds_since(begin) < seconds)) {
    const auto start = Clock::now();
    body();
    times.push_back(seconds_since(start));
  }
  std::sort(times.begin(), times.end());
  return {times[times.size() / 2], times.front()};
}

double relative_error(Context& ctx, const Tensor& a, const Tensor& b) {
  const std::vector<double> x = kernels::to_vector<double>(ctx, kernels::cast(ctx, a, DType::f64));
  const std::vector<double> y = kernels::to_vector<double>(ctx, kernels::cast(ctx, b, DType::f64));
  if (x.size() != y.size()) throw ShapeError(cat("cannot compare ", a.shape(), " with ", b.shape()));
  double difference = 0, scale = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double d = std::abs(x[i] - y[i]);
    if (!(d <= difference)) difference = d;  // keeps a NaN
    if (std::isnan(d)) return d;
    scale = std::max(scale, std::abs(y[i]));
  }
  return scale > 0 ? difference / scale : difference;
}

void require_correct(const std::string& what, double error, double most) {
  if (!(error <= most)) {
    throw Error(cat("wrong result before any measurement: ", what, " differs by ", error, ", at most ", most,
                    " is allowed"));
  }
}

void print_line(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

std::string text(const char* format, ...) {
  char buffer[512];
  std::va_list values;
  va_start(values, format);
  std::vsnprintf(buffer, sizeof buffer, format, values);
  va_end(values);
  return buffer;
}

int run_bench(const BenchArgs& args) {
  Context ctx(args.threads);
  print_line(text("%d threads, compiled for %s", ctx.pool().threads(), compiled_cpu_features()));
  const Ceilings ceilings{measure_fma_peak(ctx), measure_matmul_peak(ctx)};
  print_line(text("ceilings: multiply-add %.0f GFLOP/s, matrix product 1536^3 %.0f GFLOP/s (%.0f %% of it)",
                  ceilings.fma, ceilings.matmul, 100 * ceilings.matmul / ceilings.fma));
  const Figures figures = args.what == "attention" ? bench_attention(ctx, ceilings, args.max_tokens)
                          : args.what == "step"    ? bench_step(ctx, ceilings)
                                                   : bench_ops(ctx, ceilings);
  if (!args.json.empty()) {
    nn::JsonWriter json;
    json.add("threads", ctx.pool().threads()).add("compiled_for", compiled_cpu_features());
    json.add("fma_gflops", ceilings.fma).add("matmul_gflops", ceilings.matmul);
    for (const auto& [name, figure] : figures) json.add(name, figure);
    write_file_atomically(args.json, json.pretty());
  }
  return 0;
}

}  // namespace llsa::apps

// Shared parts of `llsa bench`: what a benchmark is given, checks, printing, the list of figures.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "apps/bench/ceilings.h"
#include "apps/bench/timing.h"
#include "apps/llsa/commands.h"
#include "core/context.h"
#include "nn/json.h"

namespace llsa::apps {

/// Time that a benchmark may take, from its construction on.
class Budget {
 public:
  /// 0 = without end.
  explicit Budget(double seconds) : seconds_(seconds), start_(Clock::now()) {}
  double used() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  bool spent() const { return seconds_ > 0 && used() >= seconds_; }
  /// Seconds; infinite without end.
  double left() const { return seconds_ > 0 ? seconds_ - used() : std::numeric_limits<double>::infinity(); }

 private:
  using Clock = std::chrono::steady_clock;
  double seconds_;
  Clock::time_point start_;
};

/// What every benchmark is given.
struct BenchRequest {
  Context& ctx;
  DType dtype = DType::f32;
  Ceilings ceilings;
  std::int64_t max_tokens = 65536;         ///< attention, paper: longest sequence
  Budget budget = Budget(0);               ///< what has not begun when it is spent is left out, and named
  std::int64_t flush_bytes = kFlushBytes;  ///< of CallTimer
  bool graph = false;                      ///< step: replayed from CUDA graphs, too
  std::string plots = {};                  ///< paper: folder for plots; empty = none
  bool by_kernel = false;                  ///< attention, step: time every op and kernel
  bool ranges = false;                     ///< with that: as NVTX ranges, too
};

/// Largest |a - b| divided by the largest |b|; NaN anywhere gives NaN. Tensors of one device each, whose
/// contexts are given.
double relative_error(Context& a_ctx, const Tensor& a, Context& b_ctx, const Tensor& b);
inline double relative_error(Context& ctx, const Tensor& a, const Tensor& b) {
  return relative_error(ctx, a, ctx, b);
}
/// |a - b| / |b| with the Euclidean norms over all elements; |a - b| where b is 0. NaN stays NaN.
double relative_l2(Context& a_ctx, const Tensor& a, Context& b_ctx, const Tensor& b);
/// Largest |a - b|; NaN anywhere gives NaN.
double largest_difference(Context& a_ctx, const Tensor& a, Context& b_ctx, const Tensor& b);

/// Throws Error unless error <= most (a NaN fails): no speed is printed for wrong results.
void require_correct(const std::string& what, double error, double most);
/// Throws Error, saying how many elements differ and which first, unless all bits of b are those of a.
/// Tensors of one shape and dtype, with any strides.
void require_same_bits(const std::string& what, Context& ctx, const Tensor& a, const Tensor& b);

/// Prints a line to standard output at once.
void print_line(const std::string& text);
/// printf into a string.
std::string text(const char* format, ...) __attribute__((format(printf, 1, 2)));

using Figures = std::vector<std::pair<std::string, nn::JsonWriter>>;

/// Each measures, prints, and returns its figures for --json.
Figures bench_attention(const BenchRequest& request);
Figures bench_step(const BenchRequest& request);
Figures bench_ops(const BenchRequest& request);
Figures bench_paper(const BenchRequest& request);
Figures bench_weights(const BenchRequest& request);
/// LLSA kernel by kernel, at (1, 6, 65536) on a device, with four heads and 16,384 tokens on the CPU, if not beyond
/// request.max_tokens.
Figures bench_attention_by_kernel(const BenchRequest& request);

}  // namespace llsa::apps

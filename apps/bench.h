// Shared parts of `llsa bench`: ceilings measured in the same run, timing, the list of figures.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/commands.h"
#include "core/context.h"
#include "core/function_ref.h"
#include "nn/json.h"

namespace llsa::apps {

/// What this machine reaches with all threads of the context.
struct Ceilings {
  double fma = 0;     ///< GFLOP/s of independent fused multiply-adds on full vectors of f32
  double matmul = 0;  ///< GFLOP/s of a 1536 x 1536 x 1536 f32 product through the library's front door
};

/// GFLOP/s of the multiply-add loop, the best of several runs.
double measure_fma_peak(Context& ctx);
double measure_matmul_peak(Context& ctx);

/// Seconds of one call.
struct Timing {
  double median = 0;
  double least = 0;
};

/// One warm-up call, then calls until there are `runs` or until `seconds` have passed, but at least three.
Timing time_calls(FunctionRef<void()> body, int runs, double seconds = 4.0);

/// Largest |a - b| divided by the largest |b|; NaN anywhere gives NaN.
double relative_error(Context& ctx, const Tensor& a, const Tensor& b);

/// Throws Error unless error <= most (a NaN fails): no speed is printed for wrong results.
void require_correct(const std::string& what, double error, double most);

/// Prints a line to standard output at once.
void print_line(const std::string& text);
/// printf into a string.
std::string text(const char* format, ...) __attribute__((format(printf, 1, 2)));

using Figures = std::vector<std::pair<std::string, nn::JsonWriter>>;

/// Each measures, prints, and returns its figures for --json.
Figures bench_attention(Context& ctx, const Ceilings& ceilings, std::int64_t max_tokens);
Figures bench_step(Context& ctx, const Ceilings& ceilings);
Figures bench_ops(Context& ctx, const Ceilings& ceilings);

}  // namespace llsa::apps

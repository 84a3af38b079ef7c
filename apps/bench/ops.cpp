// Every row of the op table: against a wider dtype first, then the time of the forward pass and of forward
// with backward.
#include <algorithm>
#include <cmath>

#include "apps/bench/bench.h"
#include "apps/bench/timing.h"
#include "autograd/table/op_table.h"
#include "autograd/var.h"

namespace llsa::apps {
namespace {

// On a GPU, rows that fill it; the last is a head's width, too.
constexpr OpSize kCpuSize{1024, 64, 2}, kDeviceSize{4096, 64, 8};

/// Largest difference, of the largest value, that still counts as rounding.
double most_error(DType dtype) { return dtype == DType::bf16 ? 3e-2 : 1e-3; }

double forward_error(const BenchRequest& request, const OpRow& row, const OpSample& sample) {
  const NoGrad no_grad;
  const OpSample wide = cast_sample(sample, request.dtype == DType::bf16 ? DType::f32 : DType::f64);
  const Vars narrow_out = row.apply(sample, leaves_of(sample, false)),
             wide_out = row.apply(wide, leaves_of(wide, false));
  double worst = 0;
  for (std::size_t i = 0; i < narrow_out.size(); ++i) {
    const double error = relative_error(request.ctx, narrow_out[i].value(), wide_out[i].value());
    if (std::isnan(error)) return error;
    worst = std::max(worst, error);
  }
  return worst;
}

}  // namespace

Figures bench_ops(const BenchRequest& request) {
  Context& ctx = request.ctx;
  const OpSize size = ctx.device().is_cuda() ? kDeviceSize : kCpuSize;
  CallTimer timer(ctx, request.flush_bytes);
  Figures figures;
  std::vector<std::string> left_out;
  print_line(text("%s, %lld tokens, width %lld, batch %lld; medians; rates of the forward pass",
                  std::string(name_of(request.dtype)).c_str(), static_cast<long long>(size.tokens),
                  static_cast<long long>(size.width), static_cast<long long>(size.batch)));
  print_line(
      "op                              error   forward ms   with backward ms   Gelem/s   GFLOP/s   of peak");
  for (const OpRow& row : op_table()) {
    if (request.dtype == DType::bf16 && !row.narrow) {
      left_out.push_back(cat(row.name, ": rounding may choose other keys"));
      continue;
    }
    if (request.budget.spent()) {
      left_out.push_back(cat(row.name, ": the time was up"));
      continue;
    }
    const OpSample sample = row.sample({ctx, size, request.dtype, 1});
    const double error = forward_error(request, row, sample);
    require_correct(cat(row.name, " in ", name_of(request.dtype), " against a wider dtype"), error,
                    most_error(request.dtype));
    const Vars constants = leaves_of(sample, false), leaves = leaves_of(sample, true);
    double elements = 0;
    const TimingLimits limits{50, 0.3};
    const Timing forward = time_calls(
        timer,
        [&](int) {
          const NoGrad no_grad;
          elements = 0;
          for (const Var& out : row.apply(sample, constants))
            elements += static_cast<double>(out.value().numel());
        },
        limits);
    for (const Tensor& input : sample.inputs)
      elements = std::max(elements, static_cast<double>(input.numel()));
    Timing both;
    if (!leaves.empty()) {
      const Vars outputs = row.apply(sample, leaves);
      Vars seeds;
      for (const Var& out : outputs) seeds.emplace_back(ctx, ctx.zeros(out.shape(), out.dtype()));
      both = time_calls(
          timer,
          [&](int) {
            const Vars out = row.apply(sample, leaves);
            for (std::size_t i = 0; i < out.size(); ++i) {
              if (out[i].requires_grad()) backward(out[i], seeds[i].value(), Graph::retain);
            }
          },
          limits);
    }
    const double flops = row.flops(sample), rate = flops / forward.median / 1e9;
    std::string line = text("%-30s %.1e   %10.4f   %16.4f   %7.2f", row.name, error, 1e3 * forward.median,
                            1e3 * both.median, elements / forward.median / 1e9);
    if (flops > 0) line += text("   %7.1f   %5.1f %%", rate, 100 * rate / request.ceilings.units());
    print_line(line);
    nn::JsonWriter json;
    json.add("error", error)
        .add("forward_ms", 1e3 * forward.median)
        .add("forward_backward_ms", 1e3 * both.median);
    json.add("gelem_per_second", elements / forward.median / 1e9).add("gflops", rate);
    figures.emplace_back(row.name, json);
  }
  for (const std::string& what : left_out) print_line(cat("left out: ", what));
  figures.emplace_back("left_out", nn::JsonWriter().add("ops", left_out));
  return figures;
}

}  // namespace llsa::apps

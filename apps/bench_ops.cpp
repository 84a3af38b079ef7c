// Every row of the op table: f32 against f64 first, then the time of the forward pass and of forward with
// backward.
#include <algorithm>

#include "apps/bench.h"
#include "autograd/op_table.h"
#include "autograd/var.h"

namespace llsa::apps {
namespace {

constexpr OpSize kSize{1024, 64, 2};
constexpr double kMostError = 1e-3;  // largest difference of f32 from f64 that still counts as rounding

double forward_error(Context& ctx, const OpRow& row, const OpSample& sample) {
  const NoGrad no_grad;
  const OpSample wide = cast_sample(sample, DType::f64);
  const Vars narrow_out = row.apply(sample, leaves_of(sample, false)),
             wide_out = row.apply(wide, leaves_of(wide, false));
  double worst = 0;
  for (std::size_t i = 0; i < narrow_out.size(); ++i) {
    const double error = relative_error(ctx, narrow_out[i].value(), wide_out[i].value());
    if (!(error <= worst)) worst = error;
  }
  return worst;
}

}  // namespace

Figures bench_ops(Context& ctx, const Ceilings& ceilings) {
  Figures figures;
  print_line(text("f32, %lld tokens, width %lld, batch %lld; medians; rates of the forward pass",
                  static_cast<long long>(kSize.tokens), static_cast<long long>(kSize.width),
                  static_cast<long long>(kSize.batch)));
  print_line(
      "op                              error   forward ms   with backward ms   Gelem/s   GFLOP/s   of peak");
  for (const OpRow& row : op_table()) {
    const OpSample sample = row.sample({ctx, kSize, DType::f32, 1});
    const double error = forward_error(ctx, row, sample);
    require_correct(cat(row.name, " in f32 against f64"), error, kMostError);
    const Vars constants = leaves_of(sample, false), leaves = leaves_of(sample, true);
    double elements = 0;
    const Timing forward = time_calls(
        [&] {
          const NoGrad no_grad;
          elements = 0;
          for (const Var& out : row.apply(sample, constants))
            elements += static_cast<double>(out.value().numel());
        },
        50, 0.3);
    for (const Tensor& input : sample.inputs)
      elements = std::max(elements, static_cast<double>(input.numel()));
    Timing both;
    if (!leaves.empty()) {
      const Vars outputs = row.apply(sample, leaves);
      Vars seeds;
      for (const Var& out : outputs) seeds.emplace_back(ctx, ctx.zeros(out.shape(), out.dtype()));
      both = time_calls(
          [&] {
            const Vars out = row.apply(sample, leaves);
            for (std::size_t i = 0; i < out.size(); ++i) {
              if (out[i].requires_grad()) backward(out[i], seeds[i].value(), Graph::retain);
            }
          },
          50, 0.3);
    }
    const double flops = row.flops(sample), rate = flops / forward.median / 1e9;
    std::string line = text("%-30s %.1e   %10.4f   %16.4f   %7.2f", row.name, error, 1e3 * forward.median,
                            1e3 * both.median, elements / forward.median / 1e9);
    if (flops > 0) line += text("   %7.1f   %5.1f %%", rate, 100 * rate / ceilings.fma);
    print_line(line);
    nn::JsonWriter json;
    json.add("error", error)
        .add("forward_ms", 1e3 * forward.median)
        .add("forward_backward_ms", 1e3 * both.median);
    json.add("gelem_per_second", elements / forward.median / 1e9).add("gflops", rate);
    figures.emplace_back(row.name, json);
  }
  return figures;
}

}  // namespace llsa::apps

#include "apps/bench/bench.h"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "apps/llsa/output.h"
#include "core/atomic_file.h"
#include "core/cpu_check.h"
#include "core/device_choice.h"
#include "core/profiler.h"
#include "kernels/copy.h"
#include "kernels/matmul.h"
#include "nn/train_step.h"

namespace llsa::apps {
namespace {

struct Pair {
  std::vector<double> a, b;
};

Pair values_of(Context& a_ctx, const Tensor& a, Context& b_ctx, const Tensor& b) {
  if (!(a.shape() == b.shape())) throw ShapeError(cat("cannot compare ", a.shape(), " with ", b.shape()));
  const auto values = [](Context& ctx, const Tensor& x) {
    return kernels::to_vector<double>(ctx, kernels::cast(ctx, x, DType::f64));
  };
  return {values(a_ctx, a), values(b_ctx, b)};
}

std::string device_text(const Context& ctx) {
  if (ctx.device().is_cpu()) return cat("CPU, compiled for ", compiled_cpu_features());
  const cuda::DeviceProperties device = cuda::device_properties(ctx.device().index);
  return cat(ctx.device().str(), ", ", device.name, ", ", device.processors, " multiprocessors, sm_",
             device.major, device.minor);
}

}  // namespace

double largest_difference(Context& a_ctx, const Tensor& a, Context& b_ctx, const Tensor& b) {
  const Pair v = values_of(a_ctx, a, b_ctx, b);
  double difference = 0;
  for (std::size_t i = 0; i < v.a.size(); ++i) {
    const double d = std::abs(v.a[i] - v.b[i]);
    if (std::isnan(d)) return d;
    difference = std::max(difference, d);
  }
  return difference;
}

double relative_error(Context& a_ctx, const Tensor& a, Context& b_ctx, const Tensor& b) {
  const Pair v = values_of(a_ctx, a, b_ctx, b);
  double difference = 0, scale = 0;
  for (std::size_t i = 0; i < v.a.size(); ++i) {
    const double d = std::abs(v.a[i] - v.b[i]);
    if (std::isnan(d)) return d;
    difference = std::max(difference, d);
    scale = std::max(scale, std::abs(v.b[i]));
  }
  return scale > 0 ? difference / scale : difference;
}

double relative_l2(Context& a_ctx, const Tensor& a, Context& b_ctx, const Tensor& b) {
  const Pair v = values_of(a_ctx, a, b_ctx, b);
  double difference = 0, scale = 0;
  for (std::size_t i = 0; i < v.a.size(); ++i) {
    difference += (v.a[i] - v.b[i]) * (v.a[i] - v.b[i]);
    scale += v.b[i] * v.b[i];
  }
  return scale > 0 ? std::sqrt(difference / scale) : std::sqrt(difference);
}

void require_correct(const std::string& what, double error, double most) {
  if (!(error <= most)) {
    throw Error(cat("wrong result, so nothing is measured: ", what, " differs by ", error, ", at most ", most,
                    " is allowed"));
  }
}

void require_same_bits(const std::string& what, Context& ctx, const Tensor& a, const Tensor& b) {
  if (!(a.shape() == b.shape())) throw ShapeError(cat("cannot compare ", a.shape(), " with ", b.shape()));
  if (a.dtype() != b.dtype())
    throw DTypeError(cat("cannot compare ", name_of(a.dtype()), " with ", name_of(b.dtype())));
  const std::size_t size = size_of(a.dtype()), count = static_cast<std::size_t>(a.numel());
  const auto bytes = [&](const Tensor& x) {
    std::vector<std::byte> out(count * size);
    kernels::copy_to_host(ctx, x, out.data());
    return out;
  };
  const std::vector<std::byte> expected = bytes(a), found = bytes(b);
  if (expected == found) return;
  std::size_t different = 0, first = 0;
  for (std::size_t i = count; i-- > 0;) {
    if (std::memcmp(&expected[i * size], &found[i * size], size) == 0) continue;
    ++different;
    first = i;
  }
  throw Error(cat("not the same bits, so nothing is measured: ", what, " differs in ", different, " of ",
                  count, " elements, first in number ", first));
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
  if (args.graph && args.what != "step")
    throw UsageError("--graph is for llsa bench step, not for " + args.what, "leave it out");
  if (!args.plots.empty() && args.what != "paper")
    throw UsageError("--plots is for llsa bench paper, not for " + args.what, "leave it out");
  if (args.by_kernel && args.what != "step" && args.what != "attention")
    throw UsageError("--by-kernel is for llsa bench step and attention, not for " + args.what,
                     "leave it out");
  if (args.nvtx && !args.by_kernel)
    throw UsageError("--nvtx marks what --by-kernel times", "give --by-kernel, too");
  check_output(args.json);
  const DeviceChoice choice = choose_device(args.device);
  print_note(passed_over_text(choice));
  Context ctx(choice.device, args.threads);
  if (args.graph.value_or(false)) nn::require_graphs(ctx);
  if (args.nvtx) const Profiler check(ctx, true);  // refuses early what it would refuse later
  ctx.allow_tf32(args.tf32);
  kernels::tune_products(ctx, args.tune);
  const DType dtype = dtype_from_name(args.dtype);
  print_line(text("%s, %d threads, %s%s", device_text(ctx).c_str(), ctx.pool().threads(), args.dtype.c_str(),
                  args.tune ? ", tuned products" : ""));
  if (args.tune && ctx.device().is_cpu())
    print_line("tune: the cpu has one algorithm for every product, there is nothing to choose");
  const Budget budget(args.seconds);
  const Ceilings ceilings = measure_ceilings(ctx, dtype);
  for (const std::string& line : describe(ceilings)) print_line(line);
  const std::int64_t longest = args.max_tokens > 0 ? args.max_tokens : ctx.device().is_cpu() ? 65536 : 262144;
  const bool graph = args.graph.value_or(ctx.device().is_cuda());
  const BenchRequest request{ctx,         dtype, ceilings,   longest,        budget,
                             kFlushBytes, graph, args.plots, args.by_kernel, args.nvtx};
  const Figures figures = args.what == "attention" ? (args.by_kernel ? bench_attention_by_kernel(request)
                                                                     : bench_attention(request))
                          : args.what == "step"    ? bench_step(request)
                          : args.what == "paper"   ? bench_paper(request)
                          : args.what == "weights" ? bench_weights(request)
                                                   : bench_ops(request);
  if (!args.json.empty()) {
    nn::JsonWriter json;
    json.add("device", device_text(ctx)).add("threads", ctx.pool().threads()).add("dtype", args.dtype);
    json.add("tune", args.tune);
    add_ceilings(json, ceilings);
    for (const auto& [name, figure] : figures) json.add(name, figure);
    write_file_atomically(args.json, json.pretty());
  }
  return 0;
}

}  // namespace llsa::apps

// LLSA beside full attention on the CPU: correctness, time, share of the ceilings, crossover, growth.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "apps/bench/attention_device.h"
#include "apps/llsa/progress.h"

namespace llsa::apps {
namespace {

constexpr std::int64_t kHeads = 4, kHeadDim = 64;
constexpr std::int64_t kLongestFull = 16384;  // full attention is not timed beyond

AttentionInputs inputs_of(const BenchRequest& request, std::int64_t tokens) {
  return make_inputs(request.ctx, InputKind::randn, 1, kHeads, tokens, kHeadDim, request.dtype, 7);
}

void check(const BenchRequest& request) {
  std::vector<AttentionProblem> problems = attention_problems();
  const std::int64_t longest = std::max<std::int64_t>(request.max_tokens, 4096);
  problems.erase(std::remove_if(problems.begin(), problems.end(),
                                [&](const AttentionProblem& p) { return p.tokens > longest; }),
                 problems.end());
  const auto variants = full_variants(request.ctx, request.dtype, kHeadDim);
  // Without repetitions: that the CPU's bits are the same each time is for the unit tests to show.
  const AttentionErrors errors = check_attention(request.ctx, request.dtype, variants, kHeadDim, problems, 0);
  print_line(text("correct: against %s with the same indices o %.1e, gradients %.1e, lse %.1e",
                  request.dtype == DType::bf16 ? "f32" : "f64", errors.o, errors.gradients, errors.lse));
}

struct Row {
  double forward = 0, both = 0;            // seconds, median
  double forward_rate = 0, both_rate = 0;  // GFLOP/s
};

template <class Run>
Row measure(CallTimer& timer, Run run, const kernels::AttentionFlops& flops) {
  const Timing forward = time_calls(timer, [&](int) { run(false); }, {11, 4.0});
  const Timing both = time_calls(timer, [&](int) { run(true); }, {7, 4.0});
  return {forward.median, both.median, flops.forward / forward.median / 1e9,
          (flops.forward + flops.backward) / both.median / 1e9};
}

std::string columns(std::int64_t tokens, double seconds, double rate, const Ceilings& ceilings) {
  return text("%9.2f %7s %6.0f %4.0f%% %4.0f%%", 1e3 * seconds,
              count_text(static_cast<double>(tokens) / seconds).c_str(), rate, 100 * rate / ceilings.fma,
              100 * rate / ceilings.matmul);
}

void print_row(const std::string& name, std::int64_t tokens, const Row& row, const Ceilings& ceilings,
               std::int64_t keys) {
  print_line(text("%7lld  %-8s %6lld |", static_cast<long long>(tokens), name.c_str(),
                  static_cast<long long>(keys)) +
             columns(tokens, row.forward, row.forward_rate, ceilings) + " |" +
             columns(tokens, row.both, row.both_rate, ceilings));
}

nn::JsonWriter figure(const Row& row, const Ceilings& ceilings) {
  nn::JsonWriter json;
  json.add("forward_ms", 1e3 * row.forward).add("forward_gflops", row.forward_rate);
  json.add("forward_backward_ms", 1e3 * row.both).add("forward_backward_gflops", row.both_rate);
  for (const auto& [name, rate] :
       {std::pair("forward", row.forward_rate), std::pair("forward_backward", row.both_rate)}) {
    json.add(cat(name, "_of_fma"), rate / ceilings.fma).add(cat(name, "_of_matmul"), rate / ceilings.matmul);
  }
  return json;
}

// Where the two times cross between two lengths, both taken as straight lines in log-log.
std::optional<double> crossing(double n0, double n1, double ratio0, double ratio1) {
  if (!(ratio0 > 1 && ratio1 <= 1)) return std::nullopt;
  const double share = std::log(ratio0) / (std::log(ratio0) - std::log(ratio1));
  return std::exp(std::log(n0) + share * (std::log(n1) - std::log(n0)));
}

// LLSA with L = auto at 65,536 tokens against 16,384: minimum of interleaved runs, and the allocator's peak.
nn::JsonWriter growth(const BenchRequest& request) {
  Context& ctx = request.ctx;
  CallTimer timer(ctx);
  constexpr std::int64_t kSmall = 16384, kLarge = 65536;
  double least[2] = {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity()};
  double peak[2] = {};
  std::int64_t keys[2] = {};
  for (int run = 0; run < 6; ++run) {  // the first round warms up
    for (int i = 0; i < 2; ++i) {
      const std::int64_t tokens = i == 0 ? kSmall : kLarge;
      keys[i] = kernels::llsa_plan(tokens, {}).keys_per_query();
      ctx.allocator()->reset_peak();
      const AttentionInputs in = inputs_of(request, tokens);
      const double seconds = timer.run([&](int) { run_llsa(ctx, in, LlsaOptions{}, true); }, 1).front();
      if (run > 0) least[i] = std::min(least[i], seconds);
      peak[i] = static_cast<double>(ctx.allocator()->stats().peak);
    }
  }
  const double time_ratio = least[1] / least[0], peak_ratio = peak[1] / peak[0];
  print_line(
      text("LLSA, L = auto, forward and backward: %lld tokens (%lld keys) %.0f ms, %lld tokens (%lld keys) "
           "%.0f ms: x%.2f in time, x%.2f in peak memory (%s)",
           static_cast<long long>(kSmall), static_cast<long long>(keys[0]), 1e3 * least[0],
           static_cast<long long>(kLarge), static_cast<long long>(keys[1]), 1e3 * least[1], time_ratio,
           peak_ratio, bytes_text(peak[1]).c_str()));
  nn::JsonWriter json;
  json.add("small_ms", 1e3 * least[0]).add("large_ms", 1e3 * least[1]);
  json.add("time_ratio", time_ratio).add("peak_ratio", peak_ratio).add("large_peak_bytes", peak[1]);
  return json;
}

}  // namespace

Figures bench_attention(const BenchRequest& request) {
  Context& ctx = request.ctx;
  if (ctx.device().is_cuda()) return bench_attention_sizes(request);
  const Ceilings& ceilings = request.ceilings;
  Figures figures;
  std::vector<std::string> left_out;
  check(request);
  CallTimer timer(ctx);
  const FullVariant full_variant = full_variants(ctx, request.dtype, kHeadDim).front();
  print_line(text("b = 1, H = %lld, D = %lld, B = 16, K = 8, %s; LLSA with pooling and selection; medians",
                  static_cast<long long>(kHeads), static_cast<long long>(kHeadDim),
                  std::string(name_of(request.dtype)).c_str()));
  print_line("                         |  forward                            |  forward and backward");
  print_line(
      " tokens  attention  keys |       ms   tok/s GFLOP/s  fma  product |       ms   tok/s GFLOP/s  fma  "
      "product");
  double before[2] = {}, before_tokens = 0;
  std::optional<double> cross[2];
  for (std::int64_t tokens = 64; tokens <= request.max_tokens; tokens *= tokens < 16384 ? 2 : 4) {
    if (request.budget.spent()) {
      left_out.push_back(cat(tokens, " tokens"));
      continue;
    }
    const AttentionInputs in = inputs_of(request, tokens);
    std::optional<Row> full;
    if (tokens <= kLongestFull) {
      full = measure(
          timer, [&](bool backward) { run_full(ctx, full_variant, in, backward); },
          kernels::full_attention_flops(kHeads, tokens, tokens, kHeadDim));
      print_row("full", tokens, *full, ceilings, tokens);
      figures.emplace_back(cat("full_", tokens), figure(*full, ceilings));
    }
    LlsaOptions options;
    if (kernels::llsa_plan(tokens, options).levels == 0) options.levels = 1;
    const auto plan = kernels::llsa_plan(tokens, options);
    const Row llsa = measure(
        timer, [&](bool backward) { run_llsa(ctx, in, options, backward); },
        kernels::llsa_flops(plan, kHeads, kHeadDim));
    print_row(cat("LLSA L=", plan.levels), tokens, llsa, ceilings, plan.keys_per_query());
    figures.emplace_back(cat("llsa_", tokens), figure(llsa, ceilings));
    if (!full) continue;
    const double ratio[2] = {llsa.forward / full->forward, llsa.both / full->both};
    print_line(
        text("                         | LLSA is x%.2f as fast forward, x%.2f with backward; executed "
             "GFLOP/s x%.2f and x%.2f",
             1 / ratio[0], 1 / ratio[1], llsa.forward_rate / full->forward_rate,
             llsa.both_rate / full->both_rate));
    for (int i = 0; i < 2; ++i) {
      if (!cross[i] && before_tokens > 0)
        cross[i] = crossing(before_tokens, static_cast<double>(tokens), before[i], ratio[i]);
      before[i] = ratio[i];
    }
    before_tokens = static_cast<double>(tokens);
  }
  for (int i = 0; i < 2; ++i) {
    const char* what = i == 0 ? "forward" : "forward and backward";
    print_line(cross[i] ? text("LLSA overtakes full attention at %.0f tokens (%s)", *cross[i], what)
                        : text("no crossover within the lengths above (%s)", what));
  }
  if (request.max_tokens >= 65536) {
    if (request.budget.spent())
      left_out.emplace_back("growth");
    else
      figures.emplace_back("growth", growth(request));
  }
  for (const std::string& what : left_out) print_line(cat("left out, the time was up: ", what));
  figures.emplace_back("left_out", nn::JsonWriter().add("sizes", left_out));
  return figures;
}

}  // namespace llsa::apps

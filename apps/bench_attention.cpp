// LLSA beside full attention: correctness, time, share of the ceilings, crossover, growth.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "apps/bench.h"
#include "apps/progress.h"
#include "kernels/attention.h"
#include "kernels/copy.h"
#include "kernels/llsa.h"
#include "kernels/random.h"

namespace llsa::apps {
namespace {

constexpr std::int64_t kHeads = 4, kHeadDim = 64;
constexpr std::int64_t kLongestFull = 16384;  // full attention is not timed beyond

struct Inputs {
  Tensor q, k, v, d_o;  // [1,H,N,D]
};

Inputs make_inputs(Context& ctx, std::int64_t tokens) {
  const Shape shape{1, kHeads, tokens, kHeadDim};
  const auto draw = [&](std::uint64_t stream) {
    return kernels::random_normal(ctx, shape, DType::f32, 7, stream);
  };
  return {draw(0), draw(1), draw(2), draw(3)};
}

Inputs to_f64(Context& ctx, const Inputs& in) {
  const auto cast = [&](const Tensor& x) { return kernels::cast(ctx, x, DType::f64); };
  return {cast(in.q), cast(in.k), cast(in.v), cast(in.d_o)};
}

struct Outcome {
  Tensor o;
  kernels::AttentionGrads grads;
};

Outcome run_full(Context& ctx, const Inputs& in, bool backward) {
  const auto result = kernels::full_attention(ctx, in.q, in.k, in.v);
  if (!backward) return {result.o, {}};
  return {result.o, kernels::full_attention_backward(ctx, in.d_o, in.q, in.k, in.v, result.o, result.lse)};
}

// Pyramid, selection, attention, and with `backward` the gradients. Given indices replace the selection.
Outcome run_llsa(Context& ctx, const Inputs& in, const kernels::LlsaPlan& plan, bool backward,
                 const kernels::LlsaIndices* given = nullptr) {
  const kernels::LlsaIndices chosen = given ? *given : kernels::llsa_select(ctx, in.q, in.k, plan);
  const auto result = kernels::llsa_attention(ctx, in.q, in.k, in.v, chosen, plan);
  if (!backward) return {result.o, {}};
  return {result.o, kernels::llsa_attention_backward(ctx, in.d_o, in.q, in.k, in.v, result.o, result.lse,
                                                     chosen, plan)};
}

double largest_error(Context& ctx, const Outcome& a, const Outcome& b) {
  double worst = 0;
  for (const auto& [x, y] : {std::pair(a.o, b.o), std::pair(a.grads.dq, b.grads.dq),
                             std::pair(a.grads.dk, b.grads.dk), std::pair(a.grads.dv, b.grads.dv)}) {
    const double error = relative_error(ctx, x, y);
    if (!(error <= worst)) worst = error;
  }
  return worst;
}

// f32 against f64 with the same indices, and with every block selected against full attention; a ragged and a
// round length.
void check(Context& ctx) {
  double in_f64 = 0, to_full = 0;
  for (const std::int64_t tokens : {std::int64_t{1009}, std::int64_t{4096}}) {
    const Inputs in = make_inputs(ctx, tokens);
    const Inputs wide = to_f64(ctx, in);
    const auto plan = kernels::llsa_plan(tokens, {});
    const auto indices = kernels::llsa_select(ctx, in.q, in.k, plan);
    in_f64 = std::max(in_f64, largest_error(ctx, run_llsa(ctx, in, plan, true, &indices),
                                            run_llsa(ctx, wide, plan, true, &indices)));
    require_correct(cat("LLSA of ", tokens, " tokens in f32 against f64"), in_f64, 2e-5);
    kernels::LlsaOptions all;
    all.topk = {static_cast<int>(tokens)};
    all.levels = 1;
    all.enriched = 0;
    to_full = std::max(to_full, largest_error(ctx, run_llsa(ctx, in, kernels::llsa_plan(tokens, all), true),
                                              run_full(ctx, wide, true)));
    require_correct(cat("LLSA of ", tokens, " tokens with all blocks selected against full attention"),
                    to_full, 2e-5);
  }
  print_line(text("correct: LLSA f32 against f64 %.1e, all blocks selected against full attention %.1e",
                  in_f64, to_full));
}

struct Row {
  double forward = 0, both = 0;            // seconds, median
  double forward_rate = 0, both_rate = 0;  // GFLOP/s
};

template <class Run>
Row measure(Run run, const kernels::AttentionFlops& flops) {
  const Timing forward = time_calls([&] { run(false); }, 11);
  const Timing both = time_calls([&] { run(true); }, 7);
  return {forward.median, both.median, flops.forward / forward.median / 1e9,
          (flops.forward + flops.backward) / both.median / 1e9};
}

void print_row(const char* name, std::int64_t tokens, const Row& row, const Ceilings& ceilings, double keys) {
  print_line(text("%8lld  %-10s %6.0f  %9.2f %7.0f %4.0f%%  %9.2f %7.0f %4.0f%%",
                  static_cast<long long>(tokens), name, keys, 1e3 * row.forward, row.forward_rate,
                  100 * row.forward_rate / ceilings.fma, 1e3 * row.both, row.both_rate,
                  100 * row.both_rate / ceilings.fma));
}

nn::JsonWriter figure(const Row& row, const Ceilings& ceilings) {
  nn::JsonWriter json;
  json.add("forward_ms", 1e3 * row.forward).add("forward_gflops", row.forward_rate);
  json.add("forward_backward_ms", 1e3 * row.both).add("forward_backward_gflops", row.both_rate);
  json.add("forward_of_fma", row.forward_rate / ceilings.fma)
      .add("forward_backward_of_fma", row.both_rate / ceilings.fma);
  return json;
}

// Where the two times cross between two lengths, both taken as straight lines in log-log.
std::optional<double> crossing(double n0, double n1, double ratio0, double ratio1) {
  if (!(ratio0 > 1 && ratio1 <= 1)) return std::nullopt;
  const double share = std::log(ratio0) / (std::log(ratio0) - std::log(ratio1));
  return std::exp(std::log(n0) + share * (std::log(n1) - std::log(n0)));
}

// LLSA with L = auto at 65,536 tokens against 16,384: minimum of interleaved runs, and the allocator's peak.
nn::JsonWriter growth(Context& ctx) {
  constexpr std::int64_t kSmall = 16384, kLarge = 65536;
  double least[2] = {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity()};
  double peak[2] = {};
  std::int64_t keys[2] = {};
  for (int run = 0; run < 6; ++run) {  // the first round warms up
    for (int i = 0; i < 2; ++i) {
      const std::int64_t tokens = i == 0 ? kSmall : kLarge;
      const auto plan = kernels::llsa_plan(tokens, {});
      keys[i] = plan.keys_per_query();
      ctx.allocator()->reset_peak();
      const Inputs in = make_inputs(ctx, tokens);
      const Timing timing = time_calls(
          [&, warm = false]() mutable {
            if (warm || run == 0) run_llsa(ctx, in, plan, true);
            warm = true;
          },
          1, 0);
      if (run > 0) least[i] = std::min(least[i], timing.least);
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

Figures bench_attention(Context& ctx, const Ceilings& ceilings, std::int64_t max_tokens) {
  Figures figures;
  check(ctx);
  print_line(text("b = 1, H = %lld, D = %lld, B = 16, K = 8, f32; LLSA with pooling and selection; medians",
                  static_cast<long long>(kHeads), static_cast<long long>(kHeadDim)));
  print_line("  tokens  attention    keys  forward ms GFLOP/s peak   with backward ms GFLOP/s peak");
  double before[2] = {}, before_tokens = 0;
  std::optional<double> cross[2];
  for (std::int64_t tokens = 64; tokens <= max_tokens; tokens *= tokens < 16384 ? 2 : 4) {
    const Inputs in = make_inputs(ctx, tokens);
    std::optional<Row> full;
    if (tokens <= kLongestFull) {
      full = measure([&](bool backward) { run_full(ctx, in, backward); },
                     kernels::full_attention_flops(kHeads, tokens, tokens, kHeadDim));
      print_row("full", tokens, *full, ceilings, static_cast<double>(tokens));
      figures.emplace_back(cat("full_", tokens), figure(*full, ceilings));
    }
    kernels::LlsaOptions options;
    if (kernels::llsa_plan(tokens, options).levels == 0) options.levels = 1;
    const auto plan = kernels::llsa_plan(tokens, options);
    const Row llsa = measure([&](bool backward) { run_llsa(ctx, in, plan, backward); },
                             kernels::llsa_flops(plan, kHeads, kHeadDim));
    print_row(cat("LLSA L=", plan.levels).c_str(), tokens, llsa, ceilings,
              static_cast<double>(plan.keys_per_query()));
    figures.emplace_back(cat("llsa_", tokens), figure(llsa, ceilings));
    if (!full) continue;
    const double ratio[2] = {llsa.forward / full->forward, llsa.both / full->both};
    print_line(
        text("                                 LLSA is x%.2f as fast forward, x%.2f with backward; executed "
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
  if (max_tokens >= 65536) figures.emplace_back("growth", growth(ctx));
  return figures;
}

}  // namespace llsa::apps

#include "apps/bench/paper_key_value.h"

#include "apps/bench/inputs.h"
#include "apps/llsa/progress.h"

namespace llsa::apps {

std::string shape_text(std::int64_t heads, std::int64_t head_dim) {
  return cat("b = 1, H = ", heads, ", D = ", head_dim);
}

std::string left_out_text(const std::string& what, std::int64_t tokens, const std::string& why) {
  return cat(what, ", ", tokens, " tokens: ", why);
}

std::string setting_text(const Context& ctx, std::int64_t heads, std::int64_t head_dim, DType dtype) {
  return cat(" (", shape_text(heads, head_dim), ", ", name_of(dtype), ", ",
             ctx.device().is_cpu() ? "CPU" : "GPU", ")");
}

void KeyValueFigure::begin() {
  if (with_mask()) check();
  print_line(
      text("Fig. 4: key-value backward, %s, f32; LLSA with L = 1, K = %d, B = %d, no coarse keys; medians",
           shape_text(options_.mask_heads, options_.head_dim).c_str(), kPaperPicks, options_.blocks.front()));
  if (with_mask())
    print_line(
        "transpose, mask: the key-value half alone, on the library's tiles, with the making of either; "
        "library: its whole backward pass, by the transpose, since it does not offer the half");
  else
    print_line(
        "library: its whole backward pass. Transpose and mask are compared on the CPU only: here, the scan "
        "of a mask would need a kernel of its own, which the library does not have");
  print_line(
      " tokens | transpose ms  tok/s |     mask ms    tok/s  x transpose |  library ms    tok/s | mask");
}

KeyValueFigure::Problem KeyValueFigure::problem(std::int64_t tokens) const {
  Context& ctx = request_.ctx;
  LlsaOptions llsa;
  llsa.block = options_.blocks.front();
  llsa.topk = {kPaperPicks};
  llsa.levels = 1;
  llsa.enriched = 0;
  const AttentionInputs in = make_inputs(ctx, InputKind::randn, 1, options_.mask_heads, tokens,
                                         options_.head_dim, DType::f32, kPaperSeed);
  kernels::LlsaResult forward = kernels::llsa_attention(ctx, in.q, in.k, in.v, llsa);
  return {{kernels::llsa_plan(tokens, llsa), kernels::llsa_indices(*forward.state).level[0], in.q, in.k, in.v,
           forward.o, forward.lse, in.d_o},
          forward};
}

void KeyValueFigure::check() {
  Context& ctx = request_.ctx;
  constexpr double kMost = 1e-5;
  const Problem problem = this->problem(options_.check_tokens.front());
  const KeyValueGrads lists = key_value_backward_by_transpose(ctx, problem.in),
                      mask = key_value_backward_by_mask(ctx, problem.in);
  const auto library = kernels::llsa_attention_backward(ctx, problem.in.d_o, *problem.forward.state);
  const double dk = relative_l2(ctx, mask.dk, ctx, library.dk),
               dv = relative_l2(ctx, mask.dv, ctx, library.dv);
  require_correct("dk by a mask", dk, kMost);
  require_correct("dv by a mask", dv, kMost);
  require_same_bits("dk by a mask", ctx, lists.dk, mask.dk);
  require_same_bits("dv by a mask", ctx, lists.dv, mask.dv);
  print_line(
      text("correct: key-value backward by mask and by transpose have the same bits, and differ from the "
           "library by %.1e (dk) and %.1e (dv), at most %.0e is allowed",
           dk, dv, kMost));
  figures_.emplace_back("mask_correctness", nn::JsonWriter().add("dk", dk).add("dv", dv));
}

void KeyValueFigure::measure(std::int64_t tokens) {
  Context& ctx = request_.ctx;
  const bool masks = with_mask();
  if (request_.budget.spent()) {
    left_out_.push_back(left_out_text("Fig. 4", tokens, "the time was up"));
    return;
  }
  try {
    const Problem problem = this->problem(tokens);
    const std::int64_t blocks = problem.in.plan.count[1];
    std::vector<std::string> names = {"library"};
    std::vector<TimedCall> calls = {
        [&](int) { kernels::llsa_attention_backward(ctx, problem.in.d_o, *problem.forward.state); }};
    if (masks) {
      names.insert(names.end(), {"transpose", "mask"});
      calls.emplace_back([&](int) { key_value_backward_by_transpose(ctx, problem.in); });
      calls.emplace_back([&](int) { key_value_backward_by_mask(ctx, problem.in); });
    }
    const std::vector<Timing> timings = time_interleaved(timer_, calls, options_.limits);
    nn::JsonWriter json;
    std::map<std::string, std::string> columns;
    for (std::size_t i = 0; i < names.size(); ++i) {
      const double rate = static_cast<double>(tokens) / timings[i].median;
      json.add(names[i] + "_ms", 1e3 * timings[i].median).add(names[i] + "_tokens_per_second", rate);
      columns[names[i]] = text("%11.2f %8s", 1e3 * timings[i].median, count_text(rate).c_str());
      rates_[names[i]].push_back({static_cast<double>(tokens), rate,
                                  rate * (timings[i].p80 - timings[i].p20) / (2 * timings[i].median)});
    }
    std::string bytes = "-", ratio = "-";
    if (masks) {
      const double size = static_cast<double>(options_.mask_heads * blocks * blocks);
      bytes = bytes_text(size);
      ratio = text("%.2f", timings[1].median / timings[2].median);
      json.add("mask_bytes", size)
          .add("mask_times_faster_than_transpose", timings[1].median / timings[2].median);
    } else {
      columns["transpose"] = columns["mask"] = text("%11s %8s", "-", "-");
    }
    print_line(text("%7lld | %s | %s %11s  | %s | %s", static_cast<long long>(tokens),
                    columns["transpose"].c_str(), columns["mask"].c_str(), ratio.c_str(),
                    columns["library"].c_str(), bytes.c_str()));
    figures_.emplace_back(cat("key_value_backward_", tokens), json);
  } catch (const OutOfMemoryError& error) {
    left_out_.push_back(left_out_text("Fig. 4", tokens, error.what()));
    ctx.allocator()->release_cache();
  }
}

Plot KeyValueFigure::plot() const {
  Plot plot{cat("Key-value backward, L = 1, B = ", options_.blocks.front(),
                setting_text(request_.ctx, options_.mask_heads, options_.head_dim, DType::f32)),
            "tokens",
            "throughput (tokens/s)",
            true,
            true,
            {}};
  const std::pair<const char*, const char*> titles[] = {
      {"transpose", "by index transpose"}, {"mask", "by dense mask"}, {"library", "library, whole backward"}};
  for (const auto& [key, title] : titles)
    if (const auto found = rates_.find(key); found != rates_.end())
      plot.series.push_back({title, found->second});
  return plot;
}

}  // namespace llsa::apps

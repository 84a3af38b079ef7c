// LLSA kernel by kernel, beside what was predicted for each.
#include <algorithm>
#include <functional>
#include <string>
#include <utility>

#include "apps/bench/attention_device.h"
#include "apps/bench/by_kernel.h"

namespace llsa::apps {
namespace {

/// At (1, 6, 65536, 64), B = 16, K = 8, L = 2 in bf16 on an H200, from counts of instructions: +-25 %. Selection,
/// forward, backward.
const std::vector<PredictedKernels>& predictions() {
  static const std::vector<PredictedKernels> all = {
      {"pool x3", "llsa/pyramid.cu", 48},
      {"select x2", "llsa/mma/select.cu", 35},
      {"attend", "llsa/mma/forward.cu", 230},
      {"terms", "llsa/attention.cu", 120},
      {"index", "llsa/index/", 50},
      {"dQ", "llsa/mma/queries.cu", 310},
      {"dK and dV with sums", "llsa/mma/keys", 452},
  };
  return all;
}

}  // namespace

Figures bench_attention_by_kernel(const BenchRequest& request, const AttentionSize& size,
                                  const std::vector<AttentionProblem>& problems, int runs) {
  Context& ctx = request.ctx;
  const AttentionErrors errors = check_attention(
      ctx, request.dtype, full_variants(ctx, request.dtype, size.head_dim), size.head_dim, problems, 0);
  print_line(text("correct: o %.1e, gradients %.1e, lse %.1e", errors.o, errors.gradients, errors.lse));

  const AttentionInputs in = make_inputs(ctx, InputKind::randn, size.batch, size.heads, size.tokens,
                                         size.head_dim, request.dtype, 20);
  const auto selected = kernels::llsa_attention(ctx, in.q, in.k, in.v, size.llsa()).state;
  const kernels::LlsaIndices indices = kernels::llsa_indices(*selected);
  const std::vector<std::pair<const char*, std::function<void()>>> variants = {
      {"LLSA", [&] { run_llsa(ctx, in, size.llsa(), true); }},
      {"LLSA, indices given", [&] { run_llsa(ctx, in, *selected, true); }},
      {"LLSA, indices given without words", [&] { run_llsa(ctx, in, indices, size.plan(), true); }}};
  Figures figures;
  std::vector<std::string> left_out;
  for (const auto& [name, run] : variants) {
    if (request.budget.spent()) {
      left_out.push_back(cat(name, ": the time was up"));
      continue;
    }
    const Profile profile = profile_calls(request, runs, run);
    print_line(text("\n%s, %s, D = %lld, %s, %s, forward and backward\n", name, size.shape().c_str(),
                    static_cast<long long>(size.head_dim), size.options().c_str(),
                    std::string(name_of(request.dtype)).c_str()));
    for (const std::string& line : table_of(profile)) print_line(line);
    const bool predicted = figures.empty() && ctx.device().is_cuda() && request.dtype == DType::bf16 &&
                           size.key() == attention_sizes().front().key();
    const std::vector<PredictedKernels> beside = predicted ? predictions() : std::vector<PredictedKernels>();
    if (predicted) print_line("");
    for (const std::string& line : table_of(profile, beside)) print_line(line);
    figures.emplace_back(name, figure_of(profile, beside));
  }
  for (const std::string& what : left_out) print_line("left out: " + what);
  figures.emplace_back("left_out", nn::JsonWriter().add("variants", left_out));
  return figures;
}

Figures bench_attention_by_kernel(const BenchRequest& request) {
  AttentionSize size = attention_sizes().front();
  if (request.ctx.device().is_cpu()) {
    size.heads = 4;
    size.tokens = 16384;
  }
  size.tokens = std::min(size.tokens, request.max_tokens);
  size.levels = std::min(size.levels, std::max(1, kernels::llsa_plan(size.tokens, {}).levels));
  std::vector<AttentionProblem> problems = attention_problems();
  const std::int64_t longest = std::max<std::int64_t>(request.max_tokens, 4096);
  std::erase_if(problems, [&](const AttentionProblem& p) { return p.tokens > longest; });
  return bench_attention_by_kernel(request, size, problems, 20);
}

}  // namespace llsa::apps

#include "apps/bench/weights.h"

#include <algorithm>
#include <string>

#include "apps/bench/by_kernel.h"
#include "kernels/matmul.h"
#include "kernels/random.h"
#include "kernels/reduce.h"

namespace llsa::apps {

std::vector<WeightShape> weight_shapes() {
  return {{"q, k, v", 1152, 384},  {"out", 384, 384},   {"mlp up", 1536, 384},
          {"mlp down", 384, 1536}, {"proj_in", 384, 3}, {"proj_out", 3, 384}};
}

Figures bench_weights(const BenchRequest& request, const std::vector<WeightShape>& shapes,
                      std::int64_t tokens, const TimingLimits& limits) {
  Context& ctx = request.ctx;
  CallTimer timer(ctx, request.flush_bytes);
  Figures figures;
  print_line(text("dW [N,K] and db of dY [%lld,N], %s\n", static_cast<long long>(tokens),
                  std::string(name_of(request.dtype)).c_str()));
  print_line(
      "| weights | N | K | together ms | launches | GFLOP/s | product, then sums ms | GFLOP/s | "
      "together over apart | difference |");
  print_line("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
  std::vector<std::string> left_out;
  for (const WeightShape& shape : shapes) {
    if (request.budget.spent()) {
      left_out.push_back(cat(shape.name, ": the time was up"));
      continue;
    }
    const Tensor dy = kernels::random_normal(ctx, {tokens, shape.n}, request.dtype, 1, 0),
                 x = kernels::random_normal(ctx, {tokens, shape.k}, request.dtype, 1, 1),
                 w = ctx.zeros({shape.n, shape.k}, request.dtype);
    kernels::LinearGrads both, apart;
    const auto together = [&] { both = kernels::linear_backward(ctx, dy, x, w, false, true, true); };
    const std::vector<Timing> timings =
        time_interleaved(timer,
                         {[&](int) { together(); },
                          [&](int) {
                            apart = kernels::linear_backward(ctx, dy, x, w, false, true, false);
                            apart.db = kernels::sum(ctx, dy, {0});
                          }},
                         limits);
    const double error =
        std::max(relative_l2(ctx, both.dw, ctx, apart.dw), relative_l2(ctx, both.db, ctx, apart.db));
    require_correct(cat("the gradient of the weights ", shape.name), error,
                    request.dtype == DType::bf16 ? 2e-2 : 1e-4);
    const std::int64_t launches = profile_calls(request, 1, together).spans;
    const double flops = kernels::product_flops(shape.n, shape.k, tokens);
    const double first = timings[0].median, second = timings[1].median;
    print_line(text("| %s | %lld | %lld | %.4f | %lld | %.0f | %.4f | %.0f | x%.2f | %.1e |", shape.name,
                    static_cast<long long>(shape.n), static_cast<long long>(shape.k), 1e3 * first,
                    static_cast<long long>(launches), flops / first / 1e9, 1e3 * second, flops / second / 1e9,
                    first / second, error));
    nn::JsonWriter json;
    json.add("n", shape.n).add("k", shape.k).add("m", tokens).add("launches", launches);
    json.add("together_ms", 1e3 * first).add("apart_ms", 1e3 * second).add("difference", error);
    figures.emplace_back(shape.name, json);
  }
  for (const std::string& what : left_out) print_line("left out: " + what);
  figures.emplace_back("left_out", nn::JsonWriter().add("weights", left_out));
  return figures;
}

Figures bench_weights(const BenchRequest& request) {
  const std::int64_t tokens = request.ctx.device().is_cuda() ? 65536 : 4096;
  return bench_weights(request, weight_shapes(), std::min(tokens, request.max_tokens), {30, 0.5, 0.05});
}

}  // namespace llsa::apps

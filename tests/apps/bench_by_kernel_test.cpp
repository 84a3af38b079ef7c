// Tables of profiles: their arithmetic, and whole benchmarks kernel by kernel at sizes where nothing can be learnt from
// the times.
#include "apps/bench/by_kernel.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "apps/bench/step.h"
#include "apps/bench/weights.h"
#include "tests/apps/bench_figures.h"
#include "tests/support/captured_output.h"
#include "tests/support/text.h"

using namespace llsa;
using namespace llsa::apps;
using llsa::test::CapturedOutput;
using llsa::test::contains;

TEST_SUITE_BEGIN("apps/bench_by_kernel");

namespace {

/// Two runs of 10 ms on a device.
Profile made_up() {
  Profile profile;
  profile.ops = {
      {"linear", {4, 0.012, 48e6, 24e9}, {{{"cublasLt x", "", ""}, {4, 0.012, 48e6, 24e9}}}},
      {"norm", {2, 0.004, 8e6, 0}, {{{"rows<4>", "kernels/cuda/norm.cu:1", "2 blocks"}, {2, 0.004, 0, 0}}}}};
  profile.seconds = 0.020;
  profile.runs = 2;
  profile.spans = 6;
  profile.span_seconds = 1e-5;
  return profile;
}

}  // namespace

TEST_CASE("rows are per run, with rates, and the rest is elsewhere") {
  const std::vector<std::string> lines = table_of(made_up());
  REQUIRE(lines.size() == 10);
  CHECK(lines[0] == "| op, kernel | calls | ms | share | MB | GB/s | GFLOP | GFLOP/s | launched as |");
  CHECK(lines[2] == "| linear | 2 | 6.0000 | 60.0 % | 24 | 4 | 12 | 2000 | |");
  CHECK(lines[3] == "| - cublasLt x | 2 | 6.0000 | 60.0 % | 24 | 4 | 12 | 2000 |  |");
  CHECK(lines[4] == "| norm | 1 | 2.0000 | 20.0 % | 4 | 2 | | | |");
  CHECK(lines[5] == "| - rows<4> | 1 | 2.0000 | 20.0 % | | | | | 2 blocks |");
  CHECK(lines[6] == "| elsewhere | | 2.0000 | 20.0 % | | | | | |");
  CHECK(lines[7] == "| all | | 10.0000 | 100.0 % | | | | | |");
  CHECK(lines[9] ==
        "Per run, mean of 2. Timing takes 10.00 us for each of 3 pieces of work, 0.3 % of the time above; "
        "nothing "
        "is replayed from CUDA graphs.");
  for (std::size_t i = 0; i < 8; ++i) CHECK(count_of(lines[i], "|") == 10);
  const std::vector<std::string> none = table_of(Profile{});
  CHECK(contains(none.back(), "Timing takes 0.00 us for each of 0 pieces of work"));
}

TEST_CASE("predicted beside measured, by the files that launch") {
  const std::vector<PredictedKernels> predictions = {{"norms", "cuda/norm.cu", 1000},
                                                     {"none", "pool.cu", 50}};
  const std::vector<std::string> lines = table_of(made_up(), predictions);
  REQUIRE(lines.size() == 4);
  CHECK(lines[2] == "| norms | 1000 | 2000.0 | x2.00 |");
  CHECK(lines[3] == "| none | 50 | 0.0 | x0.00 |");
  CHECK(table_of(made_up(), {}).empty());
  const std::string json = figure_of(made_up(), predictions).line();
  CHECK(contains(json, R"("norms": {"predicted_us": 1000)"));
  CHECK(contains(json, R"("measured_us": 2000)"));
  CHECK(contains(json, R"("elsewhere_ms": 2)"));
  CHECK(contains(json, R"("place": "kernels/cuda/norm.cu:1", "launched_as": "2 blocks"})"));
}

TEST_CASE("a step, attention and gradients of weights on the CPU") {
  Context ctx(1);
  BenchRequest request = request_of(ctx);
  request.by_kernel = true;
  nn::DitConfig model;
  model.heads = 2;
  model.head_dim = 8;
  model.layers = 1;
  model.height = model.width = 8;
  model.classes = 2;
  model.attention = nn::AttentionKind::llsa;
  model.llsa = {4, {2}, 1, -1, true};
  CapturedOutput output;
  const Figures step = bench_steps(request, {}, {{"tiny", "tiny step", model, {2}, 0, 1}}, {3, 1e-3, 0});
  AttentionSize size;
  size.heads = 2;
  size.tokens = 96;
  size.block = 4;
  size.topk = 2;
  size.head_dim = 8;
  const Figures attention = bench_attention_by_kernel(request, size, {{70, {4, {2}, 2, -1, true}}}, 3);
  const Figures weights = bench_weights(request, {{"thin", 16, 3}}, 64, {3, 1e-3, 0});
  request.budget = Budget(1e-9);
  const Figures late = bench_weights(request, {{"thin", 16, 3}}, 64, {3, 1e-3, 0});
  const std::string printed = output.text();
  CAPTURE(printed);
  CHECK(names_of(step) ==
        std::vector<std::string>{"correctness", "tiny", "tiny_by_kernel", "left_out"});  // and no goals
  CHECK(contains(json_of(step, "tiny_by_kernel"), "\"runs\": 10"));
  for (const char* op : {"adamw_ema_step", "llsa_attention", "gate_norm_modulate", "qkv_split", "flow_mix"}) {
    CAPTURE(op);
    CHECK(contains(printed, cat("| ", op, " |")));
    CHECK(contains(json_of(step, "tiny_by_kernel"), cat("\"", op, "\": {\"calls\": ")));
  }
  CHECK(contains(printed, "Without the timer a step takes "));
  CHECK(names_of(attention) == std::vector<std::string>{"LLSA", "LLSA, indices given",
                                                        "LLSA, indices given without words", "left_out"});
  CHECK(contains(json_of(attention, "LLSA"), "\"llsa_select\": {"));
  CHECK_FALSE(contains(json_of(attention, "LLSA, indices given"), "\"llsa_select\": {"));
  CHECK(contains(json_of(weights, "thin"), "\"launches\": 1"));
  CHECK(names_of(late) == std::vector<std::string>{"left_out"});
}

TEST_SUITE_END();

// llsa bench paper: its figures, plots, and the key-value backward by a mask.
#include "apps/bench/paper.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <tuple>

#include "apps/bench/inputs.h"
#include "apps/bench/mask_backward.h"
#include "apps/bench/plot.h"
#include "tests/apps/bench_figures.h"
#include "tests/support/captured_output.h"
#include "tests/support/files.h"
#include "tests/support/text.h"

using namespace llsa;
using namespace llsa::apps;
using llsa::test::CapturedOutput;
using llsa::test::contains;

TEST_SUITE_BEGIN("apps/bench_paper");

TEST_CASE("the key-value backward by a mask: the bits of that by a transpose, the library's values") {
  Context ctx(2);
  for (const auto& [tokens, block, picks] :
       {std::tuple(300, 16, 5), std::tuple(77, 4, 3), std::tuple(40, 16, 8)}) {
    CAPTURE(tokens);
    LlsaOptions options{block, {picks}, 1, 0};
    const AttentionInputs in = make_inputs(ctx, InputKind::randn, 2, 3, tokens, 20, DType::f32, 9);
    const auto forward = kernels::llsa_attention(ctx, in.q, in.k, in.v, options);
    const KeyValueInputs inputs{kernels::llsa_plan(tokens, options),
                                kernels::llsa_indices(*forward.state).level[0],
                                in.q,
                                in.k,
                                in.v,
                                forward.o,
                                forward.lse,
                                in.d_o};
    const KeyValueGrads lists = key_value_backward_by_transpose(ctx, inputs),
                        mask = key_value_backward_by_mask(ctx, inputs);
    const auto library = kernels::llsa_attention_backward(ctx, in.d_o, *forward.state);
    CHECK(relative_l2(ctx, mask.dk, ctx, library.dk) <= 1e-6);
    CHECK(relative_l2(ctx, mask.dv, ctx, library.dv) <= 1e-6);
    CHECK_NOTHROW(require_same_bits("dk", ctx, lists.dk, mask.dk));
    CHECK_NOTHROW(require_same_bits("dv", ctx, lists.dv, mask.dv));
  }
}

TEST_CASE("the exponent of growth is that of the larger half") {
  CHECK(!growth_exponent({}));
  CHECK(!growth_exponent({{1, 1}}));
  CHECK(*growth_exponent({{2, 3}, {4, 12}}) == doctest::Approx(2));
  CHECK(*growth_exponent({{1, 900}, {2, 800}, {4, 5}, {8, 10}, {16, 20}}) == doctest::Approx(1));
}

namespace {

PaperOptions tiny_paper() {
  PaperOptions options;
  options.heads = 2;
  options.head_dim = 8;
  options.tokens = {70, 140};
  options.blocks = {4, 8};
  options.check_tokens = {70, 300};
  options.limits = {3, 0.01, 0};
  return options;
}

}  // namespace

TEST_CASE("the figures of the paper: every variant, growth, JSON, plots") {
  const test::TempDir dir;
  Context ctx(2);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    CAPTURE(std::string(name_of(dtype)));
    BenchRequest request = request_of(ctx, dtype);
    request.plots = dir / std::string(name_of(dtype));
    CapturedOutput output;
    const Figures figures = bench_paper(request, tiny_paper());
    const std::string printed = output.text();
    CAPTURE(printed);
    const std::vector<std::string> names = names_of(figures);
    for (const std::string variant :
         {"full", "b4_llsa_l1", "b4_llsa_l2", "b4_llsa_l3", "b4_llsa_auto", "b4_vsa", "b4_sla", "b8_llsa_l1",
          "b8_llsa_l2", "b8_llsa_l3", "b8_llsa_auto", "b8_vsa", "b8_sla"}) {
      CAPTURE(variant);
      CHECK(std::count(names.begin(), names.end(), variant + "_140") == 1);
      CHECK(contains(json_of(figures, variant + "_140"), "\"training_times_faster_than_full\""));
      CHECK(contains(json_of(figures, "growth_" + variant), "\"inference\": "));
    }
    CHECK(contains(json_of(figures, "key_value_backward_140"), "\"mask_tokens_per_second\""));
    CHECK(contains(json_of(figures, "mask_correctness"), "\"dk\""));
    CHECK(contains(json_of(figures, "left_out"), "\"sizes\": []"));
    CHECK(count_of(printed, "correct: ") == 2);
    CHECK(contains(printed, "auto: L=2"));
    CHECK(!contains(printed, "left out"));
    const bool pictures = contains(printed, "plots, as SVG and PNG");
    CHECK(pictures != contains(printed, "gnuplot is not installed"));
    for (const char* name : {"attention_b4_inference", "attention_b4_training", "attention_b8_inference",
                             "attention_b8_training", "key_value_backward"}) {
      CAPTURE(name);
      const std::string file = request.plots + "/" + name;
      CHECK(contains(test::read_file(file + ".gp"), "logscale x"));
      CHECK(contains(test::read_file(file + ".dat"), "\n140 "));
      for (const char* ending : {".png", ".svg"})
        CHECK((std::filesystem::exists(file + ending) && std::filesystem::file_size(file + ending) > 0) ==
              pictures);
    }
  }
}

TEST_CASE("the figures of the paper name what they leave out") {
  Context ctx(2);
  const auto left_out = [](const BenchRequest& request, const PaperOptions& options) {
    CapturedOutput output;
    const Figures figures = bench_paper(request, options);
    CHECK(contains(output.text(), "left out: "));
    return json_of(figures, "left_out");
  };
  BenchRequest late = request_of(ctx);
  late.budget = Budget(1e-9);
  const std::string nothing = left_out(late, tiny_paper());
  CHECK(contains(nothing, "Fig. 3, 70 tokens: the time was up"));
  CHECK(contains(nothing, "Fig. 4, 140 tokens: the time was up"));

  PaperOptions options = tiny_paper();
  options.longest_call = 0;
  options.tokens = {30, 60};
  const std::string slow = left_out(request_of(ctx), options);
  CHECK(contains(slow, "full, inference, 60 tokens: a call would take about"));
  CHECK(contains(slow, "full, training, 60 tokens: a call would take about"));
  CHECK(!contains(slow, "full, training, 30 tokens"));
  CHECK(contains(slow, "LLSA auto, B = 8, 60 tokens: it is full attention there"));
  CHECK(contains(slow, "LLSA L=3, B = 8, 60 tokens: [llsa] 3 levels do not fit"));
}

TEST_CASE("a plot: data and script, with or without gnuplot") {
  const test::TempDir dir;
  const Plot plot{"It's a_title", "x (tokens)",
                  "y (ms)",       true,
                  false,          {{"first", {{1, 2, 0.5}, {2, 4}}}, {"none", {}}, {"second", {{1, 3}}}}};
  const std::string folder = dir / "it's here";
  const bool drawn = write_plot(plot, folder, "small");
  CHECK(test::read_file(folder + "/small.dat") ==
        "# first: x, y, error\n1 2 0.5\n2 4 0\n\n\n# second: x, y\n1 3\n\n\n");
  const std::string script = test::read_file(folder + "/small.gp");
  for (const char* part :
       {"set title 'It''s a_title' noenhanced", "set logscale x 2", "set ylabel 'y (ms)'",
        "'small.dat' index 0 with yerrorlines", "'small.dat' index 1 with linespoints", "title 'second'"}) {
    CAPTURE(part);
    CHECK(contains(script, part));
  }
  CHECK(!contains(script, "logscale y"));
  CHECK(std::filesystem::exists(folder + "/small.png") == drawn);
  CHECK(std::filesystem::exists(folder + "/small.svg") == drawn);
  CHECK_THROWS_AS(write_plot({"t", "x", "y", false, false, {{"none", {}}}}, folder, "empty"), ValueError);
}

TEST_CASE("long series are lines in their colours, and equal values have a range") {
  const test::TempDir dir;
  Plot plot{"t", "x", "y", false, false, {{"flat", {}, 4}}};
  for (int i = 0; i < 60; ++i) plot.series[0].points.push_back({1.0 * i, 3});
  test::CapturedOutput errors(stderr);
  write_plot(plot, dir.path(), "flat");
  CHECK(errors.text().empty());  // gnuplot warns of an empty range
  const std::string script = test::read_file(dir / "flat.gp");
  CHECK(contains(script, "index 0 with lines linewidth 2 linetype 4 title 'flat'"));
  CHECK(contains(script, "set yrange [2.7:3.3]"));
  CHECK(!contains(script, "xrange"));
}

TEST_SUITE_END();

// The benchmark's own arithmetic, and the device benchmark on the CPU at sizes where nothing can be learnt
// from its times.
#include "apps/bench/bench.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "apps/bench/attention_device.h"
#include "apps/bench/step.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "tests/apps/bench_figures.h"
#include "tests/support/captured_output.h"
#include "tests/support/text.h"

using namespace llsa;
using namespace llsa::apps;
using llsa::test::CapturedOutput;

namespace {

using llsa::test::contains;

const double kNaN = std::numeric_limits<double>::quiet_NaN();
const float kNaNf = std::numeric_limits<float>::quiet_NaN();

AttentionSize tiny_size(std::int64_t tokens) {
  AttentionSize size;
  size.heads = 2;
  size.tokens = tokens;
  size.block = 4;
  size.topk = 2;
  size.head_dim = 8;
  return size;
}

DeviceBenchOptions tiny_bench() {
  DeviceBenchOptions options;
  AttentionSize goal = tiny_size(64), alone = tiny_size(50);
  goal.goal = {1e9, 1e-9};  // met and missed
  goal.stretch = {1e9, 1e-9};
  goal.predicted = {0.5, 1.5};
  alone.beside_full = false;
  options.sizes = {goal, alone};
  options.problems = {{70, {4, {2}, 2, -1, true}}};
  options.repetitions = 2;
  options.probe_tokens = 32;
  options.limits = {3, 0.01, 0};
  return options;
}

}  // namespace

TEST_SUITE_BEGIN("apps/bench");

TEST_CASE("quantiles by nearest rank") {
  const Timing five = summarize({5, 1, 4, 2, 3});
  CHECK(five.median == 3);
  CHECK(five.least == 1);
  CHECK(five.p20 == 1);
  CHECK(five.p80 == 4);
  CHECK(five.calls == 5);
  const Timing one = summarize({7});
  CHECK(one.median == 7);
  CHECK(one.p20 == 7);
  CHECK(one.p80 == 7);
  const Timing ten = summarize({10, 9, 8, 7, 6, 5, 4, 3, 2, 1});
  CHECK(ten.median == 5);
  CHECK(ten.p20 == 2);
  CHECK(ten.p80 == 8);
  CHECK_THROWS_AS(summarize({}), ValueError);
}

TEST_CASE("calls take turns, are counted, and number at least three") {
  Context ctx(1);
  CallTimer timer(ctx);
  std::vector<int> order, numbers;
  const auto timings = time_interleaved(timer,
                                        {[&](int i) {
                                           order.push_back(0);
                                           numbers.push_back(i);
                                         },
                                         [&](int) { order.push_back(1); }},
                                        {1, 1e-9, 0});
  REQUIRE(timings.size() == 2);
  CHECK(timings[0].calls == 3);
  CHECK(timings[1].calls == 3);
  REQUIRE(order.size() >= 6);
  CHECK(std::vector<int>(order.end() - 6, order.end()) == std::vector<int>{0, 1, 0, 1, 0, 1});
  CHECK(std::set<int>(numbers.begin(), numbers.end()).size() == numbers.size());
  CHECK(timings[0].least >= 0);
  CHECK(timings[0].p20 <= timings[0].p80);
  CHECK(time_calls(timer, [](int) {}, {30, 10, 0}).calls == 30);
}

TEST_CASE("errors: largest, in norm, and NaN") {
  Context ctx(1);
  const Tensor a = kernels::from_vector(ctx, std::vector<float>{1, 2, 2}, {3}),
               b = kernels::from_vector(ctx, std::vector<float>{1, 2, 4}, {3});
  CHECK(relative_error(ctx, a, b) == 0.5);
  CHECK(largest_difference(ctx, a, ctx, b) == 2);
  CHECK(std::abs(relative_l2(ctx, a, ctx, b) - 2 / std::sqrt(21.0)) <= 1e-12);
  const Tensor bad = kernels::from_vector(ctx, std::vector<double>{1, kNaN, 9}, {3});
  for (const auto& [x, y] : {std::pair(a, bad), std::pair(bad, a), std::pair(bad, bad)}) {
    CHECK(std::isnan(relative_error(ctx, x, y)));
    CHECK(std::isnan(largest_difference(ctx, x, ctx, y)));
    CHECK(std::isnan(relative_l2(ctx, x, ctx, y)));
  }
  CHECK_NOTHROW(require_correct("x", 1.0, 1.0));
  CHECK_THROWS_AS(require_correct("x", 1.0000001, 1.0), Error);
  CHECK_THROWS_AS(require_correct("x", kNaN, 1.0), Error);
  CHECK_THROWS_AS(relative_error(ctx, a, a.reshape({1, 3})), ShapeError);
}

TEST_CASE("equal bits: where they differ, and how often") {
  Context ctx(1);
  const Tensor a = kernels::from_vector(ctx, std::vector<float>{1, 0, 2, kNaNf}, {4});
  const auto message = [&](const Tensor& b) {
    try {
      require_same_bits("dq of a test", ctx, a, b);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("the same");
  };
  CHECK(message(kernels::from_vector(ctx, std::vector<float>{1, 0, 2, kNaNf}, {4})) == "the same");
  const std::string off =
      message(kernels::from_vector(ctx, std::vector<float>{1, -0.0f, std::nextafter(2.0f, 3.0f), kNaNf},
                                   {4}));  // equal values, other bits
  CHECK(contains(off, "dq of a test differs in 2 of 4 elements, first in number 1"));
  CHECK_THROWS_AS(require_same_bits("x", ctx, a, a.reshape({1, 4})), ShapeError);
  CHECK_THROWS_AS(require_same_bits("x", ctx, a, kernels::cast(ctx, a, DType::f64)), DTypeError);
}

TEST_CASE("grids are as square as they can be") {
  CHECK(grid_rows(65536) == 256);
  CHECK(grid_rows(131072) == 256);
  CHECK(grid_rows(50000) == 200);
  CHECK(grid_rows(1009) == 1);
  CHECK(grid_rows(1) == 1);
}

TEST_CASE("structured inputs: normed, smooth along Morton order, the same for a seed") {
  Context ctx(2);
  const std::int64_t tokens = 24 * 36, heads = 2, d = 16;
  const auto make = [&](InputKind kind, std::uint64_t seed) {
    return make_inputs(ctx, kind, 2, heads, tokens, d, DType::f32, seed);
  };
  const AttentionInputs in = make(InputKind::structured, 1), randn = make(InputKind::randn, 1);
  const auto values = [&](const Tensor& x) { return kernels::to_vector<float>(ctx, x); };
  CHECK(values(in.q) == values(make(InputKind::structured, 1).q));
  CHECK(values(in.q) != values(make(InputKind::structured, 2).q));
  const Shape shape{2, heads, tokens, d};
  for (const Tensor* x : {&in.q, &in.k, &in.v, &in.d_o}) {
    CHECK(x->shape() == shape);
    CHECK(x->is_contiguous());
  }
  const auto q = values(in.q);
  double worst = 0;
  for (std::size_t row = 0; row < q.size(); row += static_cast<std::size_t>(d)) {
    double squares = 0;
    for (std::size_t e = 0; e < static_cast<std::size_t>(d); ++e)
      squares += static_cast<double>(q[row + e]) * q[row + e];
    REQUIRE(std::isfinite(squares));
    worst = std::max(worst, std::abs(squares / static_cast<double>(d) - 1));
  }
  CHECK(worst <= 1e-3);
  // Neighbours are alike: their distance is far below that of tokens drawn independently.
  const auto roughness = [&](const Tensor& x) {
    const auto v = values(x);
    double differences = 0, squares = 0;
    for (std::size_t i = static_cast<std::size_t>(d); i < v.size(); ++i) {
      const double step = static_cast<double>(v[i]) - v[i - static_cast<std::size_t>(d)];
      differences += step * step;
      squares += 2.0 * v[i] * v[i];
    }
    return differences / squares;
  };
  CHECK(roughness(in.v) <= 0.3);
  CHECK(roughness(randn.v) >= 0.8);
}

TEST_CASE("the gap of a selection") {
  Context ctx(1);
  const auto plan = kernels::llsa_plan(300, {4, {3}, 2, -1, true});
  const AttentionInputs in = make_inputs(ctx, InputKind::randn, 1, 2, 300, 8, DType::f32, 5);
  const auto q = kernels::llsa_pyramid(ctx, in.q, plan), k = kernels::llsa_pyramid(ctx, in.k, plan);
  kernels::LlsaIndices indices = kernels::llsa_select(ctx, in.q, in.k, plan);
  CHECK(selection_gap(ctx, plan, indices, q, k) <= 1e-6);

  const auto with = [&](std::size_t level, std::size_t at, std::int32_t value) {
    kernels::LlsaIndices changed = indices;
    auto values = kernels::to_vector<std::int32_t>(ctx, indices.level[level]);
    values[at] = value;
    changed.level[level] = kernels::from_vector(ctx, values, indices.level[level].shape());
    return selection_gap(ctx, plan, changed, q, k);
  };
  const auto top = kernels::to_vector<std::int32_t>(ctx, indices.level[1]);
  std::int32_t other = 0;  // a key that the first row did not choose, in place of its first pick
  while (std::count(top.begin(), top.begin() + 3, other) > 0) ++other;
  std::vector<std::int32_t> row = {other, top[1], top[2]};
  std::sort(row.begin(), row.end());
  kernels::LlsaIndices worse = indices;
  auto values = top;
  std::copy(row.begin(), row.end(), values.begin());
  worse.level[1] = kernels::from_vector(ctx, values, indices.level[1].shape());
  CHECK(selection_gap(ctx, plan, worse, q, k) > 1e-3);
  CHECK(std::isinf(with(1, 0, -1)));      // too short
  CHECK(std::isinf(with(1, 1, top[0])));  // not ascending
  CHECK(std::isinf(with(1, 2, 1000)));    // no such token
  CHECK(std::isinf(with(0, 2, 74)) != (kernels::to_vector<std::int32_t>(ctx, indices.level[0])[2] == 74));
}

TEST_CASE("sizes and training steps are what they say") {
  std::set<std::string> keys;
  for (const AttentionSize& size : attention_sizes()) {
    CAPTURE(size.key());
    CHECK(keys.insert(size.key()).second);
    CHECK(size.plan().levels == size.levels);
  }
  const AttentionSize& first = attention_sizes().front();
  CHECK(first.shape() == "(1, 6, 65536)");
  CHECK(first.plan().keys_per_query() == 512);
  CHECK(first.goal.forward == 0.41);
  CHECK(first.goal.both == 1.5);
  CHECK(first.stretch.forward == 0.20);
  CHECK(first.stretch.both == 0.70);

  // What has to be measured stands before what may be: the goal, two images of each size, growth with N and
  // a batch, the rest.
  std::vector<std::string> shapes;
  for (const AttentionSize& size : attention_sizes())
    if (size.beside_full && size.levels >= 2) shapes.push_back(size.shape());
  CHECK(shapes == std::vector<std::string>{"(1, 6, 65536)", "(2, 4, 16384)", "(2, 4, 65536)",
                                           "(2, 4, 262144)", "(1, 6, 16384)", "(1, 6, 131072)",
                                           "(1, 6, 262144)", "(1, 6, 262144)", "(4, 6, 65536)",
                                           "(16, 6, 16384)"});
  for (std::size_t i = 0; i < 9; ++i) CHECK(attention_sizes()[i].shape() == shapes[i]);

  CHECK(step_cases(Device{}).size() == 1);
  const auto cases = step_cases(Device{DeviceType::cuda, 0});
  REQUIRE(cases.size() == 3);
  for (const StepCase& step : cases) {
    CAPTURE(step.title);
    CHECK_NOTHROW(step.model.validate());
    CHECK(step.model.resolved().attention == nn::AttentionKind::llsa);
    CHECK(std::is_sorted(step.batches.rbegin(), step.batches.rend()));
  }
  CHECK(cases[0].model.tokens() == 65536);
  CHECK(cases[0].model.channels() == 384);
  CHECK(cases[0].goal == 0.8e6);
}

TEST_CASE("the sizes benchmark: rows, speed-ups, goals, JSON") {
  Context ctx(2);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    CAPTURE(std::string(name_of(dtype)));
    CapturedOutput output;
    const Figures figures = bench_attention_sizes(request_of(ctx, dtype), tiny_bench());
    const std::string printed = output.text();
    CAPTURE(printed);
    CHECK(names_of(figures) ==
          std::vector<std::string>{
              "correctness", "b1_h2_n64_b4_k2_l2_randn_LLSA", "b1_h2_n64_b4_k2_l2_randn_llsa_given",
              "b1_h2_n64_randn_full", "b1_h2_n64_b4_k2_l2_structured_LLSA",
              "b1_h2_n64_b4_k2_l2_structured_llsa_given", "b1_h2_n50_b4_k2_l2_randn_LLSA",
              "b1_h2_n50_b4_k2_l2_randn_llsa_given", "b1_h2_n50_b4_k2_l2_structured_LLSA",
              "b1_h2_n50_b4_k2_l2_structured_llsa_given", "goals", "left_out"});
    const std::string goal = json_of(figures, "b1_h2_n64_b4_k2_l2_randn_LLSA");
    for (const char* part :
         {"\"median_ms\"", "\"p20_ms\"", "\"tokens_per_second\"", "\"of_matmul\"", "\"peak_bytes\"",
          "\"predicted_both_ms\": 1.5", "\"measured_over_predicted_forward\"",
          "\"measured_over_predicted_both\"", "times_faster_than_full_forward_backward"}) {
      CAPTURE(part);
      CHECK(contains(goal, part));
    }
    // Full attention was measured with the first kind of inputs, and is compared with the second, too.
    CHECK(contains(json_of(figures, "b1_h2_n64_b4_k2_l2_structured_LLSA"), "times_faster_than_full_forward"));
    CHECK(!contains(json_of(figures, "b1_h2_n50_b4_k2_l2_randn_LLSA"), "times_faster"));
    const std::string goals = json_of(figures, "goals");
    CHECK(count_of(goals, "\"met\": true") == 1);
    CHECK(count_of(goals, "\"met\": false") == 1);
    CHECK(contains(printed, "MISSED"));
    CHECK(contains(printed, "Nothing was left out"));
    CHECK(count_of(printed, "\n| (1, 2, ") == 9 + 2);
    CHECK(count_of(printed, "| 0.5 x") == 2);  // predicted, and measured over it: once per kind of inputs
    CHECK(contains(json_of(figures, "correctness"), "\"repetitions_of_same_bits\": 2"));
  }
}

TEST_CASE("the sizes benchmark says what it leaves out, and why") {
  Context ctx(2);
  const auto left_out = [&](const BenchRequest& request, const DeviceBenchOptions& options) {
    CapturedOutput output;
    const Figures figures = bench_attention_sizes(request, options);
    CHECK(contains(output.text(), "Left out"));
    return json_of(figures, "left_out");
  };
  BenchRequest in_a_hurry = request_of(ctx);
  in_a_hurry.budget = Budget(1e-9);
  const std::string late = left_out(in_a_hurry, tiny_bench());
  CHECK(count_of(late, "the time was up") == 4);
  CHECK(contains(late, "(1, 2, 50) B4 K2 L2, structured"));
  CapturedOutput goals;  // a goal that was not measured is not forgotten
  const Figures unmeasured = bench_attention_sizes(in_a_hurry, tiny_bench());
  CHECK(count_of(goals.text(), "| not measured |") == 2);
  CHECK(count_of(json_of(unmeasured, "goals"), "\"measured_ms\": null") == 2);
  CHECK(count_of(json_of(unmeasured, "goals"), "\"met\": false") == 2);
  CHECK(count_of(json_of(unmeasured, "goals"), "\"stretch_met\": false") == 2);

  BenchRequest up_to_60 = request_of(ctx);
  up_to_60.max_tokens = 60;
  CHECK(contains(left_out(up_to_60, tiny_bench()), "(1, 2, 64) B4 K2 L2: more than --max-tokens 60"));

  DeviceBenchOptions options = tiny_bench();
  options.longest_call = 0;
  const std::string slow = left_out(request_of(ctx), options);
  CHECK(contains(slow, "full attention, forward, at (1, 2, 64): a call would take about"));
  CHECK(contains(slow, "full attention, forward and backward, at (1, 2, 64)"));

  Context small(1, std::size_t{4} << 20);
  options = tiny_bench();
  options.sizes.push_back(tiny_size(60000));
  const std::string full = left_out(request_of(small), options);
  CHECK(contains(full, "(1, 2, 60000) B4 K2 L2, randn: "));
  CHECK(contains(full, "out of memory"));
}

TEST_CASE("nothing is measured when a result is wrong") {
  Context ctx(2);
  const auto problems = tiny_bench().problems;
  std::vector<FullVariant> variants = full_variants(ctx, DType::f32, 8);
  CHECK_NOTHROW(check_attention(ctx, DType::f32, variants, 8, problems, 1));
  FullVariant wrong = variants.front();
  wrong.name = "wrong";
  wrong.forward = [&](Context& c, const AttentionInputs& in) {
    auto result = kernels::full_attention(c, in.q, in.k, in.v);
    result.o = kernels::affine(c, result.o, 1.001, 0.0);
    return result;
  };
  wrong.backward = {};
  const auto message_of = [&](const FullVariant& variant, int repetitions) {
    try {
      check_attention(ctx, DType::f32, {variants.front(), variant}, 8, problems, repetitions);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("right");
  };
  CHECK(contains(message_of(wrong, 0), "o of full attention (wrong)"));

  // Within the bounds, but not the same each time.
  FullVariant wavering = variants.front();
  wavering.name = "wavering";
  int calls = 0;
  wavering.backward = [&](Context& c, const AttentionInputs& in, const kernels::AttentionResult& r) {
    auto grads = kernels::full_attention_backward(c, in.d_o, in.q, in.k, in.v, r.o, r.lse);
    if (++calls == 4)  // the third repetition
      grads.dk = kernels::affine(c, grads.dk, 1.0000002, 0.0);
    return grads;
  };
  const std::string wavers = message_of(wavering, 20);
  CAPTURE(wavers);
  CHECK(contains(wavers, "not the same bits"));
  CHECK(contains(wavers, "dk of full attention (wavering) of 70 tokens, repetition 3 of 20, differs in "));
  calls = 0;
  CHECK(message_of(wavering, 2) == "right");

  // An element that nothing is written to.
  FullVariant forgetful = variants.front();
  forgetful.name = "forgetful";
  forgetful.backward = {};
  bool first_time = true;
  forgetful.forward = [&](Context& c, const AttentionInputs& in) {
    auto result = kernels::full_attention(c, in.q, in.k, in.v);
    const Tensor old = result.o;
    result.o = c.empty_like(old);  // what the cache hands out
    const std::int64_t from = first_time ? 0 : 1;
    first_time = false;
    kernels::copy(c, old.slice(2, from, old.size(2)), result.o.slice(2, from, old.size(2)));
    return result;
  };
  CHECK(
      contains(message_of(forgetful, 1), "o of full attention (forgetful) of 70 tokens, repetition 1 of 1"));
}

TEST_CASE("training steps: the first batch that fits, and what was left out") {
  nn::DitConfig model;
  model.heads = 2;
  model.head_dim = 8;
  model.layers = 1;
  model.height = model.width = 8;
  model.attention = nn::AttentionKind::llsa;
  model.llsa = {4, {2}, 1, -1, true};
  StepCase step{"tiny", "tiny step", model, {1 << 14, 2}, 1e-3, 1e12, 1e3};
  Context ctx(2, std::size_t{64} << 20);
  CapturedOutput output;
  const Figures figures = bench_steps(request_of(ctx), {model}, {step}, {3, 0.01, 0});
  const std::string printed = output.text();
  CAPTURE(printed);
  CHECK(names_of(figures) == std::vector<std::string>{"correctness", "tiny", "goals", "left_out"});
  CHECK(contains(json_of(figures, "tiny"), "\"batch\": 2"));
  CHECK(contains(json_of(figures, "tiny"), "\"op_by_op\": {"));
  CHECK(!contains(json_of(figures, "tiny"), "\"graph\""));
  CHECK(contains(json_of(figures, "tiny"), "\"measured_over_predicted\""));
  CHECK(contains(json_of(figures, "goals"), "\"measured_tokens_per_second\": "));
  CHECK(contains(json_of(figures, "goals"), "\"met\": false"));
  CHECK(contains(json_of(figures, "left_out"), "tiny step with 16384 images: "));
  CHECK(contains(printed, "left out: tiny step with 16384 images"));
  CHECK(contains(printed, "MISSED"));

  BenchRequest late = request_of(ctx);
  late.budget = Budget(1e-9);
  CapturedOutput second;
  const Figures nothing = bench_steps(late, {model}, {step}, {3, 0.01, 0});
  CHECK(contains(json_of(nothing, "left_out"), "the time was up"));
  CHECK(contains(json_of(nothing, "goals"), "\"measured_tokens_per_second\": null"));
  CHECK(contains(second.text(), "| not measured |"));

  BenchRequest replayed = request_of(ctx);
  replayed.graph = true;
  CHECK_THROWS_AS(bench_steps(replayed, {model}, {step}, {3, 0.01, 0}), DeviceError);
}

TEST_SUITE_END();

// What `llsa bench` does on a device: loops that measure ceilings, timing by events, and the benchmarks
// themselves at sizes that the emulator can take.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "apps/bench/attention_device.h"
#include "apps/bench/by_kernel.h"
#include "apps/bench/step.h"
#include "apps/bench/weights.h"
#include "kernels/backend.h"
#include "tests/kernels/cuda/contexts.h"
#include "tests/kernels/cuda/orders.h"
#include "tests/support/captured_output.h"
#include "tests/support/text.h"

using namespace llsa;
using namespace llsa::apps;
using namespace llsa::test;
using llsa::kernels::backend;

TEST_SUITE_BEGIN("kernels/cuda/bench");

namespace {

CeilingSizes tiny_sizes() {
  CeilingSizes sizes;
  sizes.side = 32;
  sizes.copy_bytes = 1 << 16;
  sizes.gather_mb = {1};
  sizes.rounds = 40;
  sizes.gather_rounds = 3;
  sizes.seconds = 1e-3;
  sizes.flush_bytes = 1 << 16;
  return sizes;
}

}  // namespace

TEST_CASE("the mma loop adds exactly") {
  if (!cuda_device()) return;
  Contexts both;
  const Tensor out = both.gpu.empty({512}, DType::f32);
  for (const std::int64_t rounds : {0, 1, 7, 100}) {
    CAPTURE(rounds);
    const auto sums = for_all_orders([&] {
      backend(both.gpu).ceilings.mma_loop(both.gpu, rounds, out);
      return kernels::to_vector<float>(both.gpu, out);
    });
    for (const float sum : sums) REQUIRE(sum == static_cast<float>(rounds) / 2);
  }
  CHECK(kernels::mma_loop_flops(512, 10) == 16 * 10 * 8 * 4096.0);
}

TEST_CASE("the exp2 loop comes to its fixed point") {
  if (!cuda_device()) return;
  Contexts both;
  const Tensor out = both.gpu.empty({256}, DType::f32);
  backend(both.gpu).ceilings.exp2_loop(both.gpu, 1, out);
  const auto first = kernels::to_vector<float>(both.gpu, out);
  for (std::size_t thread = 0; thread < first.size(); ++thread) {
    double expected = 0;
    for (std::size_t c = 0; c < 8; ++c) expected += std::exp2(-static_cast<double>((thread + c) % 16) / 16);
    REQUIRE(std::abs(first[thread] - expected) <= 1e-5);
  }
  backend(both.gpu).ceilings.exp2_loop(both.gpu, 60, out);
  for (const float sum : kernels::to_vector<float>(both.gpu, out))
    REQUIRE(std::abs(sum - 8 * 0.6411857445049859) <= 1e-5);
  CHECK(kernels::exp2_loop_count(256, 60) == 256 * 60 * 8.0);
}

TEST_CASE("the gather loop brings the blocks it names") {
  if (!cuda_device()) return;
  Contexts both;
  const std::int64_t blocks = 37, threads = 512;
  std::vector<std::int32_t> words(static_cast<std::size_t>(blocks * kernels::kGatherWords));
  for (std::size_t i = 0; i < words.size(); ++i)
    words[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(i) * 2654435761u);
  const Tensor set = kernels::from_vector(both.gpu, words, {blocks, kernels::kGatherWords});
  const Tensor out = both.gpu.empty({threads}, DType::i32);
  for (const bool through_l1 : {false, true}) {
    for (const std::uint32_t rounds : {0u, 1u, 3u, 20u}) {
      CAPTURE(rounds);
      const auto sums = for_all_orders([&] {
        backend(both.gpu).ceilings.gather_loop(both.gpu, set, rounds, through_l1, out);
        return kernels::to_vector<std::int32_t>(both.gpu, out);
      });
      for (std::uint32_t thread = 0; thread < threads; ++thread) {
        std::uint32_t expected = 0;
        for (std::uint32_t r = 0; r < rounds; ++r) {
          const std::uint32_t block = kernels::gathered_block(thread / 32, r, blocks);
          expected += static_cast<std::uint32_t>(words[block * 512 + thread % 32 + 32 * (r % 16)]);
        }
        REQUIRE(static_cast<std::uint32_t>(sums[thread]) == expected);
      }
    }
  }
}

TEST_CASE("gathered blocks are any, about equally often") {
  std::vector<int> hits(64);
  for (std::uint32_t warp = 0; warp < 64; ++warp)
    for (std::uint32_t round = 0; round < 64; ++round)
      ++hits[kernels::gathered_block(warp, round, static_cast<std::uint32_t>(hits.size()))];
  for (const int hit : hits) {
    CHECK(hit >= 24);  // 64 on average
    CHECK(hit <= 120);
  }
}

TEST_CASE("loops refuse what they cannot do") {
  if (!cuda_device()) return;
  Contexts both;
  const Tensor out = both.gpu.empty({256}, DType::f32), words = both.gpu.empty({256}, DType::i32);
  CHECK_THROWS_AS(backend(both.gpu).ceilings.mma_loop(both.gpu, 1, both.gpu.empty({255}, DType::f32)),
                  ShapeError);
  CHECK_THROWS_AS(backend(both.gpu).ceilings.mma_loop(both.gpu, 1, words), DTypeError);
  CHECK_THROWS_AS(backend(both.gpu).ceilings.mma_loop(both.gpu, -1, out), ValueError);
  CHECK_THROWS_AS(backend(both.gpu).ceilings.exp2_loop(both.gpu, 1, both.cpu.empty({256}, DType::f32)),
                  DeviceError);
  CHECK_THROWS_AS(
      backend(both.gpu).ceilings.gather_loop(both.gpu, both.gpu.empty({4, 256}, DType::i32), 1, false, words),
      ShapeError);
}

TEST_CASE("timing by events") {
  if (!cuda_device()) return;
  Context gpu(Device{DeviceType::cuda, 0}, 1);
  CallTimer timer(gpu, 1 << 16);
  const Tensor out = gpu.empty({256}, DType::f32);
  std::vector<int> numbers;
  const std::uint64_t waited = gpu.synchronizations();
  const auto seconds = timer.run(
      [&](int i) {
        numbers.push_back(i);
        backend(gpu).ceilings.exp2_loop(gpu, i % 2 == 0 ? 1000 : 1, out);
      },
      6);
  CHECK(gpu.synchronizations() == waited + 1);  // once for all calls
  CHECK(numbers == std::vector<int>{0, 1, 2, 3, 4, 5});
  REQUIRE(seconds.size() == 6);
  for (const double s : seconds) CHECK(s >= 0);
  CHECK(seconds[2] > seconds[3]);  // a thousand times the work
  CHECK(seconds[4] > seconds[5]);
  const Timing timing =
      time_calls(timer, [&](int) { backend(gpu).ceilings.exp2_loop(gpu, 100, out); }, {6, 10, 0});
  CHECK(timing.calls == 6);
  CHECK(timing.median > 0);
  CHECK(timing.p20 <= timing.p80);
}

TEST_CASE("ceilings of a device") {
  if (!cuda_device()) return;
  Context gpu(Device{DeviceType::cuda, 0}, 1);
  const Ceilings found = measure_ceilings(gpu, DType::bf16, tiny_sizes());
  for (const double rate : {found.matmul, found.mma, found.exp2, found.copy}) CHECK(rate > 0);
  REQUIRE(found.gather.size() == 1);
  CHECK(found.gather[0].past_l1 > 0);
  CHECK(found.gather[0].through_l1 > 0);
  CHECK(found.units() == found.mma);
  nn::JsonWriter json;
  add_ceilings(json, found);
  CHECK(contains(json.line(), "\"gather_1_mib_gb_per_second\""));
  CHECK(contains(describe(found).front(), "mma.sync"));
}

TEST_CASE("attention on the device is checked and measured") {
  if (!cuda_device()) return;
  Context gpu(Device{DeviceType::cuda, 0}, 1);
  DeviceBenchOptions options;
  options.sizes.clear();
  for (const std::int64_t tokens : {256, 290}) {
    AttentionSize size;
    size.heads = 1;
    size.tokens = tokens;
    size.topk = 2;
    size.levels = tokens == 290 ? 2 : 1;
    size.head_dim = 32;
    size.beside_full = tokens == 256;
    size.goal = {1e9, 1e9};
    options.sizes.push_back(size);
  }
  options.problems = {{290, {16, {2}, 2, -1, true}}};
  options.repetitions = 3;
  options.probe_tokens = 64;
  options.longest_call = 1e9;
  options.limits = {3, 1e-3, 0};
  for (const DType dtype : {DType::f32, DType::bf16}) {
    CAPTURE(std::string(name_of(dtype)));
    CapturedOutput output;
    const BenchRequest request{gpu,     dtype, measure_ceilings(gpu, dtype, tiny_sizes()), 65536, Budget(0),
                               1 << 16, false};
    const Figures figures = bench_attention_sizes(request, options);
    const std::string printed = output.text();
    CAPTURE(printed);
    const std::size_t by_rows = 2;  // of two levels, which have words to go without
    CHECK(figures.size() == 1 + 2 * 2 * 2 + by_rows + full_variants(gpu, dtype, 32).size() + 2);
    CHECK(std::count_if(figures.begin(), figures.end(), [](const auto& figure) {
            return contains(figure.first, "_n290_b16_k2_l2_") && contains(figure.first, "_llsa_rows");
          }) == 2);
    CHECK(contains(printed, "Nothing was left out"));
    CHECK(contains(printed, "(1, 1, 256)"));
    CHECK(contains(printed, "full x"));
    CHECK(contains(printed, "3 repetitions, the same bits each time"));
  }
}

namespace {

nn::DitConfig tiny_model() {
  nn::DitConfig model;
  model.heads = 1;
  model.head_dim = 32;
  model.layers = 1;
  model.height = model.width = 16;
  model.classes = 2;
  model.attention = nn::AttentionKind::llsa;
  model.llsa = {16, {2}, 1, -1, true};
  return model;
}

}  // namespace

TEST_CASE("training steps on the device are checked and measured, op by op and replayed") {
  if (!cuda_device()) return;
  Context gpu(Device{DeviceType::cuda, 0}, 1);
  const nn::DitConfig model = tiny_model();
  const StepCase step{"tiny", "tiny step", model, {1}, 0, 1};  // the goal: a token per second
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const bool graph : {false, true}) {
      if (!graph && dtype == DType::f32) continue;
      CAPTURE(graph);
      CAPTURE(std::string(name_of(dtype)));
      CapturedOutput output;
      const BenchRequest request{gpu,     dtype, measure_ceilings(gpu, dtype, tiny_sizes()), 65536, Budget(0),
                                 1 << 16, graph};
      const Figures figures = bench_steps(request, {model}, {step}, {3, 1e-3, 0});
      const std::string printed = output.text();
      CAPTURE(printed);
      REQUIRE(figures.size() == 4);
      const std::string tiny = figures[1].second.line(), goals = figures[2].second.line();
      CHECK(contains(tiny, "\"op_by_op\": {\"median_ms\": "));
      CHECK(contains(tiny, "\"graph\": {\"median_ms\": ") == graph);
      CHECK(contains(printed, "  op by op: "));
      CHECK(contains(printed, "  replayed from graphs: ") == graph);
      CHECK(contains(printed, "replays give the same bits") == graph);
      CHECK(contains(goals, "\"met\": true"));
      CHECK(contains(printed, "| met |"));
      CHECK(!contains(printed, "left out"));
    }
  }
}

TEST_CASE("a step, attention and gradients of weights kernel by kernel") {
  if (!cuda_device()) return;
  Context gpu(Device{DeviceType::cuda, 0}, 1);
  BenchRequest request{gpu, DType::bf16, {}, 65536, Budget(0), 1 << 12, false};
  request.by_kernel = true;
  CapturedOutput output;
  const Figures step = bench_steps(request, {}, {{"tiny", "tiny step", tiny_model(), {1}}}, {3, 1e-3, 0});
  AttentionSize size;
  size.heads = 1;
  size.tokens = 290;
  size.topk = 2;
  const Figures attention = bench_attention_by_kernel(request, size, {{290, {16, {2}, 2, -1, true}}}, 2);
  const Figures weights = bench_weights(request, {{"thin", 16, 3}, {"wide", 32, 16}}, 64, {3, 1e-3, 0});
  const std::string printed = output.text();
  CAPTURE(printed);
  REQUIRE(step.size() == 4);
  CHECK(step[2].first == "tiny_by_kernel");
  for (const char* part :
       {"\"adamw_ema_step\"", "cublasLt bf16 [256,32] times [32,96]", "kernels/cuda/optim.cu:"})
    CHECK(contains(step[2].second.line(), part));
  CHECK(contains(printed, "Without the timer a step takes "));
  CHECK(contains(printed, "| elsewhere |"));
  CHECK(contains(printed, "nothing is replayed from CUDA graphs"));
  REQUIRE(attention.size() == 4);
  // Lists by key come from bit words, or by sorting.
  CHECK(contains(attention[0].second.line(), "llsa/mma/select.cu"));
  CHECK_FALSE(contains(attention[1].second.line(), "llsa/mma/select.cu"));
  CHECK(contains(attention[1].second.line(), "llsa/index/words.cu"));
  CHECK(contains(attention[2].second.line(), "llsa/index/transpose.cu"));
  REQUIRE(weights.size() == 3);
  CHECK(contains(weights[1].second.line(), "\"launches\": "));
}

#ifdef SIMT_EMU
TEST_CASE("a step that cannot be captured is measured op by op alone, and why is said") {
  const StepCase step{"tiny", "tiny step", tiny_model(), {1}, 0, 1};
  const auto figures_within = [&](std::size_t bytes) {
    Context gpu(Device{DeviceType::cuda, 0}, 1, bytes);
    const BenchRequest request{gpu, DType::f32, {}, 65536, Budget(0), 1 << 12, true};
    return bench_steps(request, {}, {step}, {3, 1e-3, 0});
  };
  const auto line_of = [](const Figures& figures, std::size_t i) { return figures.at(i).second.line(); };
  CapturedOutput output;
  const std::string all = line_of(figures_within(0), 1), key = "\"peak_bytes\": ";
  CHECK(contains(all, "\"graph\": {"));
  // What a step takes, and a little: a capture may give nothing of the cache back.
  const double peak = std::stod(all.substr(all.find(key) + key.size()));
  const Figures figures = figures_within(static_cast<std::size_t>(peak) + (64 << 10));
  REQUIRE(figures.size() == 4);
  CHECK(contains(line_of(figures, 1), "\"op_by_op\": {"));
  CHECK(!contains(line_of(figures, 1), "\"graph\""));
  CHECK(contains(line_of(figures, 2), "\"variant\": \"op by op\""));
  CHECK(contains(line_of(figures, 3),
                 "tiny step, replayed from graphs: the training step could not be captured"));
  CHECK(contains(output.text(), "left out: tiny step, replayed from graphs: "));
}
#endif

TEST_SUITE_END();

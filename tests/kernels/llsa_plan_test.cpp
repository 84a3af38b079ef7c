// The plan: automatic levels, counts, widths, keys per query, every argument error, and which problems the
// tensor-core kernels take.
#include "kernels/llsa_plan.h"

#include <doctest/doctest.h>

#include <utility>
#include <vector>

#include "nn/dit_config.h"

using namespace llsa;
using namespace llsa::kernels;

TEST_SUITE_BEGIN("kernels/llsa_plan");

TEST_CASE("automatic number of levels") {
  const auto levels = [](std::int64_t n, int block) {
    LlsaOptions o;
    o.block = block;
    return llsa_plan(n, o).levels;
  };
  CHECK(levels(1, 16) == 0);
  CHECK(levels(15, 16) == 0);
  CHECK(levels(16, 16) == 0);
  CHECK(levels(255, 16) == 0);
  CHECK(levels(256, 16) == 1);
  CHECK(levels(4095, 16) == 1);
  CHECK(levels(4096, 16) == 2);
  CHECK(levels(65536, 16) == 3);
  CHECK(levels(4, 2) == 1);
  CHECK(levels(1 << 20, 2) == 19);
  CHECK(levels(243, 3) == 4);  // a floating logarithm gives 3
  CHECK(levels(242, 3) == 3);
  CHECK(levels(1000000, 1000000) == 0);
}

TEST_CASE("the counts of the paper") {
  LlsaOptions o;
  o.levels = 2;
  LlsaPlan plan = llsa_plan(128 * 128, o);
  CHECK(plan.count == std::vector<std::int64_t>{16384, 1024, 64});
  CHECK(plan.width == std::vector<int>{8, 8});
  CHECK(plan.keys_per_query() == 128 + 128 + 64);
  CHECK(llsa_plan(256 * 256, o).keys_per_query() == 512);
  o.levels = -1;
  CHECK(llsa_plan(256 * 256, o).keys_per_query() == 400);
  o.enriched = 0;
  CHECK(llsa_plan(256 * 256, o).keys_per_query() == 128);
  const AttentionFlops flops = llsa_flops(plan, 4, 64);
  CHECK(flops.forward == 2 * 2.0 * 4 * 64 * 16384 * 320);
  CHECK(flops.backward == 5 * 2.0 * 4 * 64 * 16384 * 320);
  CHECK(flops.selection == 2.0 * 4 * 64 * (1024 * 128 + 64 * 64));
}

TEST_CASE("ragged counts, covered tokens, widths with K per level") {
  LlsaOptions o;
  o.block = 5;
  o.levels = 3;
  o.topk = {7, 1, 100};
  const LlsaPlan plan = llsa_plan(127, o);
  CHECK(plan.count == std::vector<std::int64_t>{127, 26, 6, 2});
  CHECK(plan.topk == std::vector<int>{7, 1, 100});
  CHECK(plan.width == std::vector<int>{5, 1, 2});  // w_3 = n_3, w_2 = K_2, w_1 = B w_2
  CHECK(plan.covered(0, 126) == 1);
  CHECK(plan.covered(1, 25) == 2);
  CHECK(plan.covered(2, 5) == 2);
  CHECK(plan.covered(3, 0) == 125);
  CHECK(plan.covered(3, 1) == 2);
  CHECK(plan.keys_per_query() == 25 + 5 + 6 + 2);
}

TEST_CASE("no levels: everything about the pyramid is empty") {
  LlsaOptions o;
  o.levels = 0;
  o.topk = {};
  const LlsaPlan plan = llsa_plan(1000, o);
  CHECK(plan.enriched == 0);
  CHECK(plan.width.empty());
  CHECK(plan.keys_per_query() == 1000);
}

TEST_CASE("levels go as far as the level below has more than one token") {
  LlsaOptions o;
  o.levels = 3;
  CHECK(llsa_plan(4096, o).count.back() == 1);
  CHECK(llsa_plan(257, o).count == std::vector<std::int64_t>{257, 17, 2, 1});
  CHECK_THROWS_AS(llsa_plan(256, o), ValueError);
  o.levels = 1;
  CHECK(llsa_plan(2, o).count.back() == 1);
  CHECK_THROWS_AS(llsa_plan(1, o), ValueError);
}

TEST_CASE("argument errors") {
  const LlsaOptions good;
  CHECK_NOTHROW(llsa_plan(4096, good));
  CHECK_THROWS_AS(llsa_plan(0, good), ValueError);
  CHECK_THROWS_AS(llsa_plan(-5, good), ValueError);
  const auto fails = [&good](auto change) {
    LlsaOptions o = good;
    change(o);
    CHECK_THROWS_AS(llsa_plan(4096, o), ValueError);
  };
  fails([](LlsaOptions& o) { o.block = 1; });
  fails([](LlsaOptions& o) { o.block = 0; });
  fails([](LlsaOptions& o) { o.block = -16; });
  fails([](LlsaOptions& o) { o.topk = {}; });
  fails([](LlsaOptions& o) { o.topk = {8, 8, 8}; });
  fails([](LlsaOptions& o) { o.topk = {0}; });
  fails([](LlsaOptions& o) { o.topk = {8, -1}; });
  fails([](LlsaOptions& o) { o.levels = -2; });
  fails([](LlsaOptions& o) { o.levels = 4; });
  fails([](LlsaOptions& o) { o.enriched = 3; });
  fails([](LlsaOptions& o) { o.enriched = -2; });
}

namespace {

LlsaPlan plan_of(int block, std::vector<int> topk, int levels = 2, std::int64_t tokens = 4096) {
  return llsa_plan(tokens, {.block = block, .topk = std::move(topk), .levels = levels});
}

}  // namespace

TEST_CASE("every obstacle of attention") {
  for (const std::int64_t d : {32, 64, 128})
    for (const int block : {16, 32, 64}) CHECK(attend_obstacle(plan_of(block, {8}), d, DType::bf16).empty());
  const LlsaPlan good = plan_of(16, {8});
  CHECK(attend_obstacle(good, 64, DType::f32) == "dtype f32 is not bf16");
  CHECK(attend_obstacle(good, 64, DType::f64) == "dtype f64 is not bf16");
  CHECK(attend_obstacle(good, 48, DType::bf16) == "head dimension 48 is not one of 32, 64, 128");
  CHECK(attend_obstacle(good, 256, DType::bf16) == "head dimension 256 is not one of 32, 64, 128");
  CHECK(attend_obstacle(plan_of(24, {8}), 64, DType::bf16) == "block 24 is not one of 16, 32, 64");
  CHECK(attend_obstacle(plan_of(128, {8}, 1), 64, DType::bf16) == "block 128 is not one of 16, 32, 64");
  CHECK(attend_obstacle(plan_of(24, {8}, 0), 64, DType::bf16).empty());  // blocks are not used
  CHECK(attend_obstacle(plan_of(16, {200}), 64, DType::bf16).empty());   // picks are the selection's affair
  const std::int64_t most = std::int64_t{1} << 30;
  CHECK(attend_obstacle(plan_of(16, {8}, 2, most - 1), 64, DType::bf16).empty());
  CHECK(attend_obstacle(plan_of(16, {8}, 2, most), 64, DType::bf16) ==
        "1073741824 tokens are not fewer than 1073741824");
  LlsaPlan full;  // as of full attention with more keys than queries
  full.tokens = 5;
  full.count = {most};
  CHECK(attend_obstacle(full, 64, DType::bf16) == "1073741824 tokens are not fewer than 1073741824");
}

TEST_CASE("every obstacle of the selection") {
  for (const std::int64_t d : {32, 64, 128})
    for (const int width : {1, 8, 64})
      for (const bool coarsest : {true, false}) {
        CHECK(select_obstacle(width, 16, coarsest, d, DType::bf16).empty());
        CHECK(select_obstacle(width, 48, coarsest, d, DType::bf16).empty());
      }
  CHECK(select_obstacle(8, 16, false, 64, DType::f32) == "dtype f32 is not bf16");
  CHECK(select_obstacle(8, 16, false, 40, DType::bf16) == "head dimension 40 is not one of 32, 64, 128");
  CHECK(select_obstacle(65, 16, true, 64, DType::bf16) == "65 picks are more than 64");
  CHECK(select_obstacle(8, 24, false, 64, DType::bf16) == "block 24 is not a multiple of 16");
  CHECK(select_obstacle(8, 24, true, 64, DType::bf16).empty());
}

TEST_CASE("the sentence for a user names what runs on the plain kernels, the worst first") {
  CHECK(plain_kernels_text(plan_of(16, {8}), 64, DType::bf16).empty());
  CHECK(plain_kernels_text(plan_of(16, {8}, 0), 48, DType::bf16).empty());  // full attention
  CHECK(plain_kernels_text(plan_of(16, {100}), 48, DType::bf16) ==
        "LLSA attention runs on the plain kernels, which are slower: head dimension 48 is not one of 32, 64, "
        "128");
  CHECK(plain_kernels_text(plan_of(16, {100, 4}), 64, DType::bf16).empty());  // of 64 candidates
  CHECK(plain_kernels_text(plan_of(16, {100, 8}), 64, DType::bf16) ==
        "LLSA selection runs on the plain kernels, which are slower: 100 picks are more than 64 (level 1)");
  CHECK(plain_kernels_text(plan_of(16, {8, 100}, 2, 65536), 64, DType::bf16) ==
        "LLSA selection runs on the plain kernels, which are slower: 100 picks are more than 64 (level 2)");
}

TEST_CASE("a model is spoken of where it computes in bf16 on a GPU by LLSA") {
  const Device gpu{DeviceType::cuda, 0};
  nn::DitConfig config;
  config.height = config.width = 64;
  config.head_dim = 48;
  config.attention = nn::AttentionKind::llsa;
  CHECK(nn::slower_attention_text(config, gpu, DType::bf16) ==
        "LLSA attention runs on the plain kernels, which are slower: head dimension 48 is not one of 32, 64, "
        "128");
  CHECK(nn::slower_attention_text(config, gpu, DType::f32).empty());
  CHECK(nn::slower_attention_text(config, Device{}, DType::bf16).empty());
  config.attention = nn::AttentionKind::full;
  CHECK(nn::slower_attention_text(config, gpu, DType::bf16).empty());
  config.attention = nn::AttentionKind::llsa;
  config.head_dim = 64;
  CHECK(nn::slower_attention_text(config, gpu, DType::bf16).empty());
}

TEST_SUITE_END();

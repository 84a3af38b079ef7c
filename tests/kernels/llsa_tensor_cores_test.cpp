// Which problems the tensor-core kernels of LLSA take, and what is said of the others.
#include "kernels/llsa_tensor_cores.h"

#include <doctest/doctest.h>

#include <utility>
#include <vector>

#include "nn/dit_config.h"

using namespace llsa;
using namespace llsa::kernels;

TEST_SUITE_BEGIN("kernels/llsa_tensor_cores");

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

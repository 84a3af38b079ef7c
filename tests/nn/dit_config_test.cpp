#include "nn/dit_config.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/support/text.h"

namespace llsa::nn {

namespace {

using llsa::test::contains;
using llsa::test::failure_of;

std::string parse_error(const std::string& text) {
  return failure_of<Error>([&] { DitConfig::parse(text, "c.json"); });
}

}  // namespace

TEST_SUITE_BEGIN("nn/dit_config");

TEST_CASE("every field survives JSON") {
  DitConfig c;
  c.heads = 3;
  c.head_dim = 8;
  c.layers = 2;
  c.in_channels = 4;
  c.out_channels = 5;
  c.patch = 2;
  c.height = 30;
  c.width = 20;
  c.rope_size = std::array<int, 2>{7, 9};
  c.classes = 11;
  c.qk_norm = false;
  c.attention_bias = false;
  c.reorder = false;
  c.attention = AttentionKind::llsa;
  c.llsa = {4, {3, 2}, 2, 1, false, true};
  c.init = InitKind::published;
  c.pred_x0 = true;
  c.pos_embed = true;
  c.class_std = 0.5;
  const DitConfig back = DitConfig::parse(c.json(), "c.json");
  CHECK(back == c);
  CHECK(back.rope_size == c.rope_size);
  CHECK(back.llsa.topk == c.llsa.topk);
  CHECK(back.height == 30);
  CHECK(back.width == 20);
  CHECK(DitConfig::parse("{}", "c.json") == DitConfig{});
  CHECK(DitConfig::parse(DitConfig{}.json(), "c.json") == DitConfig{});
}

TEST_CASE("wrong keys and values are named") {
  CHECK(contains(parse_error(R"({"num_layer": 3})"),
                 "unknown key \"num_layer\" | did you mean \"num_layers\"?"));
  CHECK(contains(parse_error(R"({"num_layers": 3, "num_layers": 4})"), "\"num_layers\" is given twice"));
  CHECK(contains(parse_error(R"({"num_layers": -1})"), "key \"num_layers\": expected an integer from 1"));
  CHECK(contains(parse_error(R"({"num_layers": 2.7})"), "got the number 2.7"));
  CHECK(contains(parse_error(R"({"num_layers": "4"})"), "got the string"));
  CHECK(contains(parse_error(R"({"num_layers": null})"), "got null"));
  CHECK(contains(parse_error(R"({"llsa_attention": "top"})"),
                 "one of \"full\", \"llsa\", \"vsa\", \"sla\", \"auto\""));
  CHECK(contains(parse_error(R"({"llsa_levels": "all"})"), "one of \"auto\""));
  CHECK(contains(parse_error(R"({"llsa_levels": -1})"), "from 0 to 62"));
  CHECK(contains(parse_error(R"({"llsa_topk": 0})"), "from 1 to"));
  CHECK(contains(parse_error(R"({"llsa_topk": []})"), "llsa_topk"));
  CHECK(contains(parse_error(R"({"llsa_class_std": "NaN"})"), "expected a number"));
  CHECK(contains(parse_error(R"({"sample_size": [4, 4, 4]})"), "expected n or [rows, columns]"));
  CHECK(contains(parse_error(R"({"attention_head_dim": 30})"), "multiple of 4, got 30"));
  CHECK(contains(parse_error(R"({"_class_name": "Other"})"), "RopeDiTTransformer2DModel"));
}

TEST_CASE("sides that the patch does not divide name the nearest sizes") {
  const std::string message = parse_error(R"({"sample_size": [30, 21], "patch_size": 4})");
  CHECK(contains(message, "30x21 is not divisible by the patch size 4"));
  CHECK(contains(message, "a height of 28 or 32, a width of 20 or 24"));
  CHECK(contains(failure_of<Error>([] { check_sides(3, 8, 4); }), "a height of 4"));
  CHECK_THROWS_AS(check_sides(0, 4, 1), ValueError);
  CHECK_NOTHROW(check_sides(30, 20, 2));
}

TEST_CASE("levels that do not fit the number of tokens are errors") {
  CHECK(parse_error(R"({"sample_size": 16, "llsa_attention": "llsa", "llsa_levels": 5})") != "");
  CHECK(parse_error(
            R"({"sample_size": 16, "llsa_attention": "llsa", "llsa_levels": 1, "llsa_enriched": 2})") != "");
  CHECK(parse_error(R"({"sample_size": 16, "llsa_attention": "full", "llsa_levels": 5})") == "");
}

TEST_CASE("auto is full attention up to four times the keys that LLSA attends") {
  for (const int side : {4, 8, 16, 24, 32, 64, 128}) {
    DitConfig c;
    c.height = c.width = side;
    const auto plan = kernels::llsa_plan(c.tokens(), c.llsa);
    const bool full = plan.levels == 0 || c.tokens() <= 4 * plan.keys_per_query();
    CHECK(c.resolved().attention == (full ? AttentionKind::full : AttentionKind::llsa));
  }
  DitConfig c;
  c.height = c.width = 16;  // 256 tokens, 128 + 16 keys
  CHECK(c.resolved().attention == AttentionKind::full);
  c.height = c.width = 128;  // 16384 tokens, 320 keys
  CHECK(c.resolved().attention == AttentionKind::llsa);
  c.attention = AttentionKind::full;
  CHECK(c.resolved().attention == AttentionKind::full);
}

TEST_SUITE_END();

}  // namespace llsa::nn

#include "nn/diffusers_config.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/support/text.h"

namespace llsa::nn {

namespace {

using llsa::test::contains;

template <class F>
std::string message_of(F&& call) {
  try {
    call();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

/// The published text of a small model with an extra piece of JSON.
std::string published(const std::string& extra) {
  return R"({"_class_name": "RopeDiTTransformer2DModel", "_diffusers_version": "0.30", "num_attention_heads": 2,
    "attention_head_dim": 8, "num_layers": 1, "in_channels": 3, "axes_dims_rope": [4, 4], "sample_size": 64)" +
         extra + "}";
}

DitConfig read(const std::string& extra) {
  return parse_diffusers_config(published(extra), "config.json").config;
}

}  // namespace

TEST_SUITE_BEGIN("nn/diffusers_config");

TEST_CASE("missing keys take the published defaults") {
  const auto c = parse_diffusers_config("{}", "config.json").config;
  CHECK(c.heads == 16);
  CHECK(c.head_dim == 72);
  CHECK(c.layers == 28);
  CHECK(c.in_channels == 4);
  CHECK(c.out_channels == 4);
  CHECK(c.height == 32);
  CHECK(c.attention == AttentionKind::full);
  CHECK_FALSE(c.qk_norm);
  CHECK(c.attention_bias);
  CHECK_FALSE(c.reorder);
  CHECK(c.classes == 0);
}

TEST_CASE("attention kinds and the order of sparse_topk") {
  CHECK(read(R"(, "attn_type": "pixel")").attention == AttentionKind::full);
  DitConfig c = read(R"(, "attn_type": "sparse_l1", "sparse_topk": [9, 5])");
  CHECK(c.attention == AttentionKind::llsa);
  CHECK(c.llsa.levels == 1);
  CHECK(c.llsa.topk == std::vector<int>{5});
  c = read(R"(, "attn_type": "sparse_l2_varlen", "sparse_topk": [9, 5], "sparse_block_size": 8)");
  CHECK(c.llsa.levels == 2);
  CHECK(c.llsa.topk == std::vector<int>{5, 9});
  CHECK(c.llsa.block == 8);
  CHECK(c.llsa.enriched == 2);
  c = read(R"(, "attn_type": "sparse_l3", "sparse_topk": [1, 2, 3], "sparse_block_size": 4,
              "sparse_levels_enriched": 1, "sparse_reweight": false)");
  CHECK(c.llsa.topk == std::vector<int>{3, 2, 1});
  CHECK(c.llsa.enriched == 1);
  CHECK_FALSE(c.llsa.reweight);
  CHECK(read(R"(, "attn_type": "sparse_l2", "sparse_topk": 6)").llsa.topk == std::vector<int>{6});
  c = read(R"(, "attn_type": "vsa", "sparse_topk": 6, "vsa_gate": false)");
  CHECK(c.attention == AttentionKind::vsa);
  CHECK(c.llsa.topk == std::vector<int>{6});
  CHECK_FALSE(c.vsa_gate);
  CHECK(read(R"(, "attn_type": "vsa")").vsa_gate);
  CHECK(read(R"(, "attn_type": "sla_varlen")").attention == AttentionKind::sla);
}

TEST_CASE("what this model cannot do is refused") {
  for (const char* extra :
       {R"(, "attn_type": "vsa", "sparse_topk": [4, 8])", R"(, "attn_type": "top_k")",
        R"(, "attn_type": "sparse_l0")", R"(, "attn_type": 3)", R"(, "activation_fn": "gelu")",
        R"(, "norm_eps": 1e-6)", R"(, "pred_x0": 1)", R"(, "image_rescale": 0.5)", R"(, "shift": 3.0)",
        R"(, "qk_norm": "layer_norm")", R"(, "sparse_topk": [1, 2, 3], "attn_type": "sparse_l2")"})
    CHECK_THROWS_AS(read(extra), ValueError);
  CHECK(contains(message_of([] { parse_diffusers_config(R"({"axes_dims_rope": [16, 56]})", "c"); }),
                 "axes_dims_rope"));
  CHECK(contains(message_of([] { read(R"(, "num_layers": 2)"); }), "given twice"));
}

TEST_CASE("what the network predicts is read and written") {
  CHECK_FALSE(read("").pred_x0);
  CHECK_FALSE(read(R"(, "pred_x0": false)").pred_x0);
  DitConfig c = read(R"(, "pred_x0": true)");
  CHECK(c.pred_x0);
  CHECK(parse_diffusers_config(diffusers_config_json(c), "config.json").config.pred_x0);
  c.pred_x0 = false;
  CHECK_FALSE(contains(diffusers_config_json(c), "pred_x0"));
}

TEST_CASE("unknown keys are noted in one sentence, not refused") {
  const auto notes = [](const char* extra) {
    return parse_diffusers_config(published(extra), "config.json").notes;
  };
  CHECK(notes(R"(, "dropout": 0.0)").empty());
  CHECK(notes(R"(, "odd": 1)") ==
        std::vector<std::string>{R"(config.json: the key "odd" is not known here and ignored)"});
  CHECK(notes(R"(, "strange": 1, "odd": 2)") ==
        std::vector<std::string>{R"(config.json: the keys "strange", "odd" are not known here and ignored)"});
}

TEST_CASE("a configuration survives the published form") {
  DitConfig c;
  c.head_dim = 16;
  c.height = c.width = 64;
  c.classes = 7;
  c.attention = AttentionKind::llsa;
  c.llsa = {4, {3, 2, 5}, 3, 2, false, true};
  c.pos_embed = true;
  const DitConfig back = parse_diffusers_config(diffusers_config_json(c), "config.json").config;
  CHECK(back.head_dim == 16);
  CHECK(back.classes == 7);
  CHECK(back.attention == AttentionKind::llsa);
  CHECK(back.llsa.block == 4);
  CHECK(back.llsa.topk == c.llsa.topk);
  CHECK(back.llsa.levels == 3);
  CHECK(back.llsa.enriched == 2);
  CHECK_FALSE(back.llsa.reweight);
  CHECK(back.llsa.own);
  CHECK(back.pos_embed);
  CHECK(back.qk_norm);
  CHECK(back.reorder);
  CHECK_FALSE(diffusers_reader_obstacle(c).empty());

  c.pos_embed = false;
  c.height = c.width = 128;
  c.llsa = {16, {8}, -1, -1, true};
  CHECK(diffusers_reader_obstacle(c).empty());
  CHECK(contains(diffusers_config_json(c), "\"attn_type\": \"sparse_l2\""));
  for (const AttentionKind kind : {AttentionKind::vsa, AttentionKind::sla}) {
    c.attention = kind;
    c.vsa_gate = false;
    const DitConfig same = parse_diffusers_config(diffusers_config_json(c), "config.json").config;
    CHECK(same.attention == kind);
    CHECK(same.llsa.topk == c.llsa.topk);
    CHECK(same.vsa_gate == (kind == AttentionKind::sla));  // which says nothing about it
  }
  c.attention = AttentionKind::full;
  CHECK(contains(diffusers_config_json(c), "\"attn_type\": \"pixel\""));
  CHECK(parse_diffusers_config(diffusers_config_json(c), "config.json").notes.empty());
}

TEST_CASE("where the published program would not compute the same") {
  DitConfig loadable;
  loadable.height = loadable.width = 128;
  loadable.attention = AttentionKind::llsa;
  loadable.llsa = {16, {8}, 2, -1, true};
  const struct {
    const char* says;  // "" where it can
    void (*change)(DitConfig&);
  } cases[] = {
      {"", [](DitConfig&) {}},
      {"", [](DitConfig& c) { c.llsa.levels = 1; }},
      {"learned position embedding", [](DitConfig& c) { c.pos_embed = true; }},
      {"predicts x0", [](DitConfig& c) { c.pred_x0 = true; }},
      {"not square", [](DitConfig& c) { c.width = 32; }},
      {"1 and 2 levels, this has 3",
       [](DitConfig& c) {
         c.llsa.block = 4;
         c.llsa.levels = 3;
       }},
      {"enriches all levels", [](DitConfig& c) { c.llsa.enriched = 1; }},
      {"re-weights", [](DitConfig& c) { c.llsa.reweight = false; }},
      {"own block", [](DitConfig& c) { c.llsa.own = true; }},
      {"does not know vsa attention", [](DitConfig& c) { c.attention = AttentionKind::vsa; }},
      // Full attention, asked for or because there are too few tokens for a level, has none of these.
      {"",
       [](DitConfig& c) {
         c.attention = AttentionKind::full;
         c.llsa = {4, {8}, 3, 1, false};
       }},
      {"",
       [](DitConfig& c) {
         c.height = c.width = 8;
         c.llsa = {16, {8}, 0, 0, false};
       }},
      {"not square",
       [](DitConfig& c) {
         c.attention = AttentionKind::full;
         c.height = 32;
       }},
      // Models that the published program runs without an error, but computes differently.
      {"pair of numbers",
       [](DitConfig& c) {
         c.rope_size = {128, 64};
       }},
      {"",
       [](DitConfig& c) {
         c.rope_size = {64, 64};
       }},
      {"512 tokens a side, this model has 96", [](DitConfig& c) { c.height = c.width = 96; }},
      {"512 tokens a side, this model has 1024", [](DitConfig& c) { c.height = c.width = 1024; }},
      {"this model has 2",
       [](DitConfig& c) {
         c.patch = 64;
         c.attention = AttentionKind::full;
       }},
      {"",
       [](DitConfig& c) {
         c.height = c.width = 96;
         c.reorder = false;
         c.attention = AttentionKind::full;
       }},
      {"divide the number of tokens, here 16 and 900",
       [](DitConfig& c) {
         c.height = c.width = 30;
         c.reorder = false;
         c.llsa.levels = 1;
       }},
      {"here 6 blocks of 16", [](DitConfig& c) { c.llsa.topk = {6}; }},
      {"here 2 blocks of 16",
       [](DitConfig& c) {
         c.llsa.topk = {8, 2};
       }},
      {"fewer than 64, here 16", [](DitConfig& c) { c.height = c.width = 64; }},
  };
  for (const auto& [says, change] : cases) {
    DitConfig config = loadable;
    change(config);
    const std::string obstacle = diffusers_reader_obstacle(config);
    CAPTURE(obstacle);
    CHECK(obstacle.empty() == std::string(says).empty());
    CHECK(contains(obstacle, says));
  }
}

TEST_CASE("scheduler and index files") {
  CHECK(parse_scheduler_config(scheduler_config_json(2.5), "s").noise_rescale == 2.5);
  CHECK_FALSE(parse_scheduler_config(scheduler_config_json(2.5), "s").pred_x0);
  CHECK(parse_scheduler_config(scheduler_config_json(2.5), "s").notes.empty());
  CHECK(parse_scheduler_config("{}", "s").noise_rescale == 1.0);
  CHECK(parse_scheduler_config(R"({"pred_x0": true})", "s").pred_x0);
  CHECK_THROWS_AS(parse_scheduler_config(R"({"shift": 3.0})", "s"), ValueError);
  CHECK_THROWS_AS(parse_scheduler_config(R"({"noise_rescale": 0})", "s"), ValueError);
  CHECK(contains(model_index_json(), "\"FlowMatchingPipeline\""));
}

TEST_CASE("scheduler keys that change how images are drawn are refused, others noted") {
  for (const char* on :
       {R"("noise_size": 16)", R"("invert_sigmas": true)", R"("use_karras_sigmas": true)",
        R"("use_dynamic_shifting": true)", R"("shift_terminal": 0.1)", R"("use_beta_sigmas": true)"}) {
    CAPTURE(on);
    CHECK(contains(message_of([&] { parse_scheduler_config(cat("{", on, "}"), "s"); }),
                   "it changes how images are drawn, and is not supported"));
  }
  CHECK(contains(message_of([] { parse_scheduler_config(R"({"_class_name": "DDPMScheduler"})", "s"); }),
                 "expected one of \"FlowMatchEulerDiscreteTrainingScheduler\""));
  const auto notes = [](const char* text) { return parse_scheduler_config(text, "s").notes; };
  CHECK(
      notes(
          R"({"invert_sigmas": false, "noise_size": null, "shift_terminal": null, "shift": 1.0, "base_shift": 0.5,
                  "use_dynamic_shifting": false, "_class_name": "FlowMatchEulerDiscreteScheduler"})")
          .empty());
  CHECK(notes(R"({"odd": 1})") ==
        std::vector<std::string>{R"(s: the key "odd" is not known here and ignored)"});
}

TEST_CASE("a published configuration is told from one of a training run") {
  CHECK(is_diffusers_config(published(R"(, "attn_type": "pixel")"), "c"));
  CHECK(is_diffusers_config(diffusers_config_json({}), "c"));
  CHECK_FALSE(is_diffusers_config(DitConfig().json(), "c"));
  CHECK_FALSE(is_diffusers_config("{}", "c"));
}

TEST_SUITE_END();

}  // namespace llsa::nn

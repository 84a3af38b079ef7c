// Checks of a DiT's configuration, and its JSON.
#include "nn/dit_config.h"

#include <cmath>

#include "core/error.h"

namespace llsa::nn {
namespace {

constexpr std::int64_t kMaxSide = 1 << 16;

void require(bool holds, const std::string& message, std::string hint = {}) {
  if (!holds) throw ValueError("[dit_config] " + message, std::move(hint));
}

void require_range(const char* name, std::int64_t value, std::int64_t least, std::int64_t most) {
  require(value >= least && value <= most, cat(name, ": expected ", least, " to ", most, ", got ", value));
}

/// A single size n (a square) or [rows, columns].
std::array<int, 2> read_sides(JsonObject& json, const std::string& key, std::array<int, 2> otherwise,
                              std::int64_t most) {
  const auto list = json.integers(key, {otherwise[0], otherwise[1]}, 1, most);
  if (list.size() > 2)
    throw ValueError(cat("[", json.where(), "] key \"", key,
                         "\": expected n or [rows, columns], got a list of ", list.size()));
  return {static_cast<int>(list.front()), static_cast<int>(list.back())};
}

/// An integer, or a word that stands for -1.
int read_count_or(JsonObject& json, const std::string& key, int otherwise, const std::string& word,
                  int most) {
  if (json.is_string(key)) {
    json.choice(key, word, {word});
    return -1;
  }
  return static_cast<int>(json.integer(key, otherwise, 0, most, cat(" or \"", word, "\"")));
}

void write_sides(JsonWriter& json, const std::string& key, std::int64_t rows, std::int64_t columns) {
  if (rows == columns)
    json.add(key, rows);
  else
    json.add(key, std::vector<std::int64_t>{rows, columns});
}

void write_count_or(JsonWriter& json, const std::string& key, int value, const char* word) {
  if (value < 0)
    json.add(key, word);
  else
    json.add(key, value);
}

}  // namespace

std::string name_of(ModelKind kind) { return kind == ModelKind::pixelflow ? "pixelflow" : "dit"; }

std::string name_of(AttentionKind kind) {
  switch (kind) {
    case AttentionKind::full:
      return "full";
    case AttentionKind::llsa:
      return "llsa";
    case AttentionKind::vsa:
      return "vsa";
    case AttentionKind::sla:
      return "sla";
    case AttentionKind::automatic:
      break;
  }
  return "auto";
}

std::string name_of(InitKind kind) { return kind == InitKind::published ? "published" : "adaln_zero"; }

ModelKind model_kind(const std::string& name) {
  for (const auto kind : {ModelKind::dit, ModelKind::pixelflow})
    if (name == name_of(kind)) return kind;
  throw ValueError(cat("[dit_config] model: expected \"dit\" or \"pixelflow\", got \"", name, '"'));
}

AttentionKind attention_kind(const std::string& name) {
  for (const auto kind : {AttentionKind::full, AttentionKind::llsa, AttentionKind::vsa, AttentionKind::sla,
                          AttentionKind::automatic})
    if (name == name_of(kind)) return kind;
  throw ValueError(
      cat("[dit_config] attention: expected \"full\", \"llsa\", \"vsa\", \"sla\" or \"auto\", got \"", name,
          '"'));
}

InitKind init_kind(const std::string& name) {
  for (const auto kind : {InitKind::adaln_zero, InitKind::published})
    if (name == name_of(kind)) return kind;
  throw ValueError(cat("[dit_config] init: expected \"adaln_zero\" or \"published\", got \"", name, '"'));
}

void check_sides(std::int64_t height, std::int64_t width, int patch) {
  require(height >= 1 && width >= 1 && height <= kMaxSide && width <= kMaxSide,
          cat("size: expected sides from 1 to ", kMaxSide, " pixels, got ", height, "x", width));
  if (height % patch == 0 && width % patch == 0) return;
  const auto near = [patch](std::int64_t side) {
    const std::int64_t below = side / patch * patch;
    return below > 0 ? cat(below, " or ", below + patch) : cat(patch);
  };
  std::string hint;
  if (height % patch != 0) hint += "a height of " + near(height);
  if (width % patch != 0) hint += (hint.empty() ? "a width of " : ", a width of ") + near(width);
  throw ValueError(
      cat("[dit_config] size ", height, "x", width, " is not divisible by the patch size ", patch),
      "the nearest sizes have " + hint);
}

void DitConfig::validate() const {
  require_range("num_attention_heads", heads, 1, 4096);
  require_range("attention_head_dim", head_dim, 4, 4096);
  require(head_dim % 4 == 0, cat("attention_head_dim: RoPE needs a multiple of 4, got ", head_dim));
  require_range("num_layers", layers, 1, 4096);
  require_range("in_channels", in_channels, 1, 4096);
  require_range("out_channels", out_channels, 1, 4096);
  require_range("patch_size", patch, 1, kMaxSide);
  require_range("num_embeds_ada_norm", classes, 0, 1 << 24);
  check_sides(height, width, patch);
  if (rope_size)
    for (const int side : *rope_size) require_range("rope_size", side, 1, kMaxSide);
  require(class_std >= 0.0 && std::isfinite(class_std),
          cat("llsa_class_std: expected a finite number of at least 0, got ", class_std));
  require_range("llsa_block", llsa.block, 2, 1 << 20);
  require(!llsa.topk.empty(), "llsa_topk: expected at least one number");
  for (const int k : llsa.topk) require_range("llsa_topk", k, 1, 1 << 24);
  require_range("llsa_levels", llsa.levels, -1, 62);
  require_range("llsa_enriched", llsa.enriched, -1, 62);
  // The number of levels must fit the number of tokens; the plan knows the rules.
  if (attention != AttentionKind::full) plan();
}

LlsaPlan DitConfig::plan() const {
  if (attention != AttentionKind::vsa && attention != AttentionKind::sla)
    return kernels::llsa_plan(tokens(), llsa);
  require(llsa.topk.size() == 1,
          cat("llsa_topk: ", name_of(attention), " takes one number, got ", llsa.topk.size()));
  return kernels::picked_blocks_plan(tokens(), llsa.block, llsa.topk[0]);
}

DitConfig DitConfig::resolved() const {
  validate();
  DitConfig out = *this;
  if (attention == AttentionKind::automatic) {
    const LlsaPlan plan = this->plan();
    const bool dense = plan.levels == 0 || tokens() <= 4 * plan.keys_per_query();
    out.attention = dense ? AttentionKind::full : AttentionKind::llsa;
  }
  return out;
}

DitConfig DitConfig::read(JsonObject& json) {
  DitConfig c;
  const auto count = [&json](const char* key, int otherwise, std::int64_t least, std::int64_t most) {
    return static_cast<int>(json.integer(key, otherwise, least, most));
  };
  json.choice("_class_name", "RopeDiTTransformer2DModel", {"RopeDiTTransformer2DModel"});
  c.heads = count("num_attention_heads", c.heads, 1, 4096);
  c.head_dim = count("attention_head_dim", c.head_dim, 4, 4096);
  c.layers = count("num_layers", c.layers, 1, 4096);
  c.in_channels = count("in_channels", c.in_channels, 1, 4096);
  c.out_channels = count("out_channels", c.in_channels, 1, 4096);
  c.patch = count("patch_size", c.patch, 1, kMaxSide);
  const auto sides = read_sides(json, "sample_size", {c.height, c.width}, kMaxSide);
  c.height = sides[0];
  c.width = sides[1];
  if (!json.absent_or_null("rope_size")) c.rope_size = read_sides(json, "rope_size", {1, 1}, kMaxSide);
  if (!json.absent_or_null("num_embeds_ada_norm")) c.classes = count("num_embeds_ada_norm", 0, 1, 1 << 24);
  if (json.has("qk_norm"))
    c.qk_norm =
        !json.absent_or_null("qk_norm") && json.choice("qk_norm", "rms_norm", {"rms_norm"}) == "rms_norm";
  c.attention_bias = json.boolean("attention_bias", c.attention_bias);
  c.reorder = json.boolean("token_permutation", c.reorder);
  c.pred_x0 = json.boolean("pred_x0", c.pred_x0);

  c.attention = attention_kind(
      json.choice("llsa_attention", name_of(c.attention), {"full", "llsa", "vsa", "sla", "auto"}));
  c.llsa.block = count("llsa_block", c.llsa.block, 2, 1 << 20);
  const auto topk = json.integers("llsa_topk", {c.llsa.topk.begin(), c.llsa.topk.end()}, 1, 1 << 24);
  c.llsa.topk.assign(topk.begin(), topk.end());
  c.llsa.levels = read_count_or(json, "llsa_levels", c.llsa.levels, "auto", 62);
  c.llsa.enriched = read_count_or(json, "llsa_enriched", c.llsa.enriched, "all", 62);
  c.llsa.reweight = json.boolean("llsa_reweight", c.llsa.reweight);
  c.llsa.own = json.boolean("llsa_own", c.llsa.own);
  c.vsa_gate = json.boolean("llsa_vsa_gate", c.vsa_gate);
  c.init = init_kind(json.choice("llsa_init", name_of(c.init), {"adaln_zero", "published"}));
  c.pos_embed = json.boolean("llsa_pos_embed", c.pos_embed);
  c.class_std = json.number("llsa_class_std", c.class_std, 0.0, 1e6);
  try {
    c.validate();
  } catch (const ValueError& e) {
    throw ValueError(cat("[", json.where(), "] ", e.what()), e.hint());
  }
  return c;
}

DitConfig DitConfig::parse(const std::string& text, const std::string& where) {
  JsonObject json(text, where);
  DitConfig config = read(json);
  json.finish();
  return config;
}

void DitConfig::write(JsonWriter& json, bool with_classes) const {
  json.add("num_attention_heads", heads).add("attention_head_dim", head_dim).add("num_layers", layers);
  json.add("in_channels", in_channels).add("out_channels", out_channels).add("patch_size", patch);
  write_sides(json, "sample_size", height, width);
  if (rope_size)
    write_sides(json, "rope_size", (*rope_size)[0], (*rope_size)[1]);
  else
    json.add_null("rope_size");
  if (with_classes && classes > 0) json.add("num_embeds_ada_norm", classes);
  if (with_classes && classes == 0) json.add_null("num_embeds_ada_norm");
  if (qk_norm)
    json.add("qk_norm", "rms_norm");
  else
    json.add_null("qk_norm");
  json.add("attention_bias", attention_bias).add("token_permutation", reorder).add("pred_x0", pred_x0);
  json.add("llsa_attention", name_of(attention)).add("llsa_block", llsa.block);
  if (llsa.topk.size() == 1)
    json.add("llsa_topk", llsa.topk.front());
  else
    json.add("llsa_topk", std::vector<std::int64_t>(llsa.topk.begin(), llsa.topk.end()));
  write_count_or(json, "llsa_levels", llsa.levels, "auto");
  write_count_or(json, "llsa_enriched", llsa.enriched, "all");
  json.add("llsa_reweight", llsa.reweight).add("llsa_own", llsa.own);
  json.add("llsa_vsa_gate", vsa_gate).add("llsa_init", name_of(init));
  json.add("llsa_pos_embed", pos_embed).add("llsa_class_std", class_std);
}

std::string DitConfig::json() const {
  JsonWriter json;
  write(json);
  return json.pretty();
}

bool operator==(const DitConfig& a, const DitConfig& b) {
  // The JSON names every field, so equal text is equality.
  return a.json() == b.json();
}

std::string slower_attention_text(const DitConfig& config, Device device, DType dtype) {
  if (!device.is_cuda() || dtype != DType::bf16 || config.attention == AttentionKind::full) return "";
  return kernels::plain_kernels_text(config.plan(), config.head_dim, dtype);
}

}  // namespace llsa::nn

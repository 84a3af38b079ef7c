// "sparse_l<L>" names the number of levels. A list sparse_topk begins with the coarsest level for L >= 2, and
// is [unused, K_1] for L = 1.
#include "nn/diffusers_config.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <set>

#include "core/closest.h"
#include "core/error.h"
#include "nn/diffusion/cascade.h"
#include "nn/image_model.h"

namespace llsa::nn {
namespace {

/// What the files of the layout say about a kind of model.
struct KindNames {
  const char* pipeline;
  std::vector<std::string> model, scheduler;  // module, class
  double norm_eps;
  const std::string& model_class() const { return model[1]; }
  const std::string& scheduler_class() const { return scheduler[1]; }
};

const KindNames& names_of(ModelKind kind) {
  static const KindNames dit = {
      "FlowMatchingPipeline",
      {"llsa.models.rope_dit_transformer_2d", "RopeDiTTransformer2DModel"},
      {"llsa.schedulers.flow_training_scheduler", "FlowMatchEulerDiscreteTrainingScheduler"},
      1e-5};
  static const KindNames pixelflow = {"PixelFlowPipeline",
                                      {"llsa.models.pixelflow_transformer", "PixelFlowTransformer"},
                                      {"llsa.schedulers.pixelflow_scheduler", "PixelFlowScheduler"},
                                      1e-6};
  return kind == ModelKind::pixelflow ? pixelflow : dit;
}

constexpr int kTimeSteps = 1000;

[[noreturn]] void refuse(const std::string& where, const std::string& what, std::string hint = {}) {
  throw ValueError(cat("[", where, "] ", what), std::move(hint));
}

/// What "attn_type" says.
struct AttentionType {
  AttentionKind kind;
  int levels;  // of LLSA
};

/// "pixel", "sparse_l<L>", "vsa", "sla"; "_varlen" behind them means the same.
AttentionType parse_attention(const std::string& where, std::string type) {
  const std::string suffix = "_varlen";
  if (type.size() > suffix.size() && type.compare(type.size() - suffix.size(), suffix.size(), suffix) == 0)
    type.resize(type.size() - suffix.size());
  if (type == "pixel") return {AttentionKind::full, 0};
  if (type == "vsa") return {AttentionKind::vsa, 0};
  if (type == "sla") return {AttentionKind::sla, 0};
  const std::string prefix = "sparse_l";
  if (type.compare(0, prefix.size(), prefix) == 0) {
    const std::string number = type.substr(prefix.size());
    if (!number.empty() && number.size() <= 2 &&
        std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; }) &&
        std::stoi(number) >= 1)
      return {AttentionKind::llsa, std::stoi(number)};
  }
  refuse(where, cat("key \"attn_type\": expected \"pixel\", \"sparse_l<levels>\", \"vsa\" or \"sla\", got \"",
                    type, '"'));
}

/// K_1 .. K_L from the list in the file.
std::vector<int> parse_topk(const std::string& where, const std::vector<std::int64_t>& list,
                            const AttentionType& type) {
  const auto [kind, levels] = type;
  const auto at = [&list](std::size_t i) { return static_cast<int>(list[i]); };
  if (list.size() == 1 || kind == AttentionKind::full) return {at(0)};
  if (kind != AttentionKind::llsa)
    refuse(where, cat("key \"sparse_topk\": expected an integer for ", name_of(kind), ", got a list of ",
                      list.size()));
  const auto expected = static_cast<std::size_t>(std::max(2, levels));
  if (list.size() != expected)
    refuse(where, cat("key \"sparse_topk\": expected an integer or a list of ", expected, ", got a list of ",
                      list.size()));
  if (levels == 1) return {at(1)};
  std::vector<int> topk;
  for (std::size_t i = list.size(); i-- > 0;) topk.push_back(at(i));
  return topk;
}

/// One sentence about the keys that were not read, except for keys that do not concern the model.
std::string unread_note(const JsonObject& json, const std::set<std::string>& silent) {
  std::vector<std::string> keys;
  for (const std::string& key : json.unread())
    if (silent.count(key) == 0) keys.push_back(cat('"', key, '"'));
  if (keys.empty()) return {};
  return cat(json.where(), keys.size() == 1 ? ": the key " : ": the keys ", listed(keys),
             keys.size() == 1 ? " is" : " are", " not known here and ignored");
}

}  // namespace

std::string diffusers_config_json(const DitConfig& given, ModelKind kind) {
  const DitConfig config = given.resolved();
  JsonWriter json;
  json.add("_class_name", names_of(kind).model_class()).add("activation_fn", "gelu-approximate");
  json.add("attention_bias", config.attention_bias).add("attention_head_dim", config.head_dim);
  const bool picks_blocks = config.attention == AttentionKind::vsa || config.attention == AttentionKind::sla;
  const LlsaPlan plan = config.attention == AttentionKind::llsa ? config.plan() : LlsaPlan();
  const bool sparse = plan.levels > 0;
  json.add("attn_type", picks_blocks ? name_of(config.attention)
                        : sparse     ? cat("sparse_l", plan.levels)
                                     : std::string("pixel"));
  json.add("axes_dims_rope", std::vector<std::int64_t>{config.head_dim / 2, config.head_dim / 2});
  json.add("in_channels", config.in_channels).add("norm_eps", names_of(kind).norm_eps);
  json.add("num_attention_heads", config.heads);
  if (config.classes > 0)
    json.add("num_embeds_ada_norm", config.classes);
  else
    json.add_null("num_embeds_ada_norm");
  json.add("num_layers", config.layers)
      .add("out_channels", config.out_channels)
      .add("patch_size", config.patch);
  if (config.qk_norm)
    json.add("qk_norm", "rms_norm");
  else
    json.add_null("qk_norm");
  const auto sides = [&json](const char* key, int rows, int columns) {
    if (rows == columns)
      json.add(key, rows);
    else
      json.add(key, std::vector<std::int64_t>{rows, columns});
  };
  if (config.rope_size)
    sides("rope_size", (*config.rope_size)[0], (*config.rope_size)[1]);
  else
    json.add_null("rope_size");
  sides("sample_size", config.height, config.width);
  json.add("sparse_block_size", config.llsa.block);
  if (sparse) {
    json.add("sparse_levels_enriched", plan.enriched).add("sparse_reweight", config.llsa.reweight);
    if (config.llsa.own) json.add("sparse_own_block", true);
    if (std::all_of(plan.topk.begin(), plan.topk.end(), [&plan](int k) { return k == plan.topk.front(); }))
      json.add("sparse_topk", plan.topk.front());
    else
      json.add("sparse_topk", std::vector<std::int64_t>(plan.topk.rbegin(), plan.topk.rend()));
  } else {
    json.add("sparse_topk", config.llsa.topk.front());
  }
  if (config.attention == AttentionKind::vsa) json.add("vsa_gate", config.vsa_gate);
  json.add("token_permutation", config.reorder);
  if (config.pred_x0) json.add("pred_x0", true);
  if (config.pos_embed) json.add("llsa_pos_embed", true);
  return json.pretty();
}

DiffusersConfig parse_diffusers_config(const std::string& text, const std::string& where) {
  JsonObject json(text, where);
  DiffusersConfig out;
  DitConfig& c = out.config;
  const auto count = [&json](const char* key, int otherwise, std::int64_t least, std::int64_t most) {
    return static_cast<int>(json.integer(key, otherwise, least, most));
  };
  const auto count_or_null = [&](const char* key, int otherwise, std::int64_t least, std::int64_t most) {
    return json.absent_or_null(key) ? otherwise : count(key, otherwise, least, most);
  };
  const std::string dit = names_of(ModelKind::dit).model_class();
  json.choice("_class_name", dit, {dit, names_of(ModelKind::pixelflow).model_class()});
  out.kind = diffusers_model_kind(text, where);
  c.heads = count("num_attention_heads", 16, 1, 4096);
  c.head_dim = count("attention_head_dim", 72, 4, 4096);
  c.layers = count("num_layers", 28, 1, 4096);
  c.in_channels = count("in_channels", 4, 1, 4096);
  c.out_channels = count_or_null("out_channels", c.in_channels, 1, 4096);
  c.patch = count("patch_size", 1, 1, 1 << 16);
  const auto sides = [&json, &where](const char* key, std::int64_t otherwise) {
    const auto list = json.integers(key, {otherwise}, 1, 1 << 16);
    if (list.size() > 2)
      refuse(where, cat("key \"", key, "\": expected n or [rows, columns], got a list of ", list.size()));
    return std::array<int, 2>{static_cast<int>(list.front()), static_cast<int>(list.back())};
  };
  const auto size = sides("sample_size", 32);
  c.height = size[0];
  c.width = size[1];
  if (!json.absent_or_null("rope_size")) c.rope_size = sides("rope_size", 1);
  c.classes = count_or_null("num_embeds_ada_norm", 0, 0, 1 << 24);
  c.qk_norm = !json.absent_or_null("qk_norm") && !json.choice("qk_norm", "rms_norm", {"rms_norm"}).empty();
  c.attention_bias = json.boolean("attention_bias", true);
  c.reorder = json.boolean("token_permutation", false);
  c.pred_x0 = json.boolean("pred_x0", false);
  if (out.kind == ModelKind::dit) c.init = InitKind::published;
  c.pos_embed = json.boolean("llsa_pos_embed", false);

  const AttentionType type = parse_attention(where, json.string("attn_type", "pixel"));
  const int levels = type.levels;
  c.llsa.block = count("sparse_block_size", 16, 2, 1 << 20);
  c.llsa.topk = parse_topk(where, json.integers("sparse_topk", {16}, 1, 1 << 24), type);
  c.attention = type.kind;
  c.llsa.levels = levels > 0 ? levels : -1;
  const int enriched = count("sparse_levels_enriched", levels, 0, 62);
  if (levels > 0) c.llsa.enriched = enriched;
  c.llsa.reweight = json.boolean("sparse_reweight", true);
  c.llsa.own = json.boolean("sparse_own_block", false);
  c.vsa_gate = json.boolean("vsa_gate", true);

  const auto axes = json.integers("axes_dims_rope", {36, 36}, 1, 4096);
  if (axes.size() != 2 || axes[0] != axes[1] || axes[0] + axes[1] != c.head_dim)
    refuse(where, cat("key \"axes_dims_rope\": expected [", c.head_dim / 2, ", ", c.head_dim / 2,
                      "], half of attention_head_dim for each axis"));
  json.choice("activation_fn", "gelu-approximate", {"gelu-approximate"});
  const double norm_eps = names_of(out.kind).norm_eps;
  if (const double eps = json.number("norm_eps", norm_eps, 0.0, 1.0); eps != norm_eps)
    refuse(where, cat("key \"norm_eps\": expected ", norm_eps, ", got ", eps));
  if (!json.absent_or_null("image_rescale") && json.number("image_rescale", 1.0, 0.0, 1e6) != 1.0)
    refuse(where, "key \"image_rescale\": only 1 is supported");
  if (!json.absent_or_null("shift") && json.number("shift", 1.0, 0.0, 1e6) != 1.0)
    refuse(where, "key \"shift\": only 1 is supported");

  // Settings of other parts of the program, and marks of the library, that wrote the file.
  const std::set<std::string> silent = {"_diffusers_version",      "_name_or_path", "dropout",
                                        "norm_elementwise_affine", "norm_type",     "upcast_attention",
                                        "norm_num_groups"};
  if (const std::string note = unread_note(json, silent); !note.empty()) out.notes.push_back(note);
  try {
    validate_model(out.kind, c);
  } catch (const ValueError& e) {
    throw ValueError(cat("[", where, "] ", e.what()), e.hint());
  }
  return out;
}

bool is_diffusers_config(const std::string& text, const std::string& where) {
  const JsonObject json(text, where);
  return json.has("attn_type") || json.has("axes_dims_rope");
}

ModelKind diffusers_model_kind(const std::string& text, const std::string& where) {
  const bool pixelflow =
      JsonObject(text, where).string("_class_name", "") == names_of(ModelKind::pixelflow).model_class();
  return pixelflow ? ModelKind::pixelflow : ModelKind::dit;
}

std::string diffusers_reader_obstacle(const DitConfig& given, ModelKind kind) {
  if (kind == ModelKind::pixelflow) return "it knows no PixelFlow";
  const DitConfig config = given.resolved();
  if (config.pos_embed) return "it has a learned position embedding";
  if (config.pred_x0) return "it predicts x0, from which that reader may compute another flow";
  if (config.height != config.width) return "its images are not square";
  if (config.rope_size && (*config.rope_size)[0] != (*config.rope_size)[1])
    return "its rope_size is a pair of numbers";
  const std::int64_t side = config.rows();
  if (config.reorder && (side < 4 || side > 512 || !std::has_single_bit(static_cast<std::uint64_t>(side))))
    return cat("it knows the Morton order of 4, 8, 16, .. 512 tokens a side, this model has ", side);
  if (config.attention == AttentionKind::full) return {};
  if (config.attention != AttentionKind::llsa)
    return cat("it does not know ", name_of(config.attention), " attention");
  const LlsaPlan plan = config.plan();
  if (plan.levels == 0) return {};
  if (plan.levels > 2) return cat("it knows LLSA of 1 and 2 levels, this has ", plan.levels);
  if (plan.enriched < plan.levels) return "it enriches all levels, this model does not";
  if (plan.own) return "it does not pick a query's own block always, this model does";
  if (!plan.reweight) return "it always re-weights coarse tokens, this model does not";
  // The kernels of the published program work on tiles of 64 keys.
  constexpr std::int64_t kTile = 64;
  for (int level = 0; level < plan.levels; ++level) {
    const auto l = static_cast<std::size_t>(level);
    if (plan.count[l] % plan.block != 0)
      return cat("its block size has to divide the number of tokens, here ", plan.block, " and ",
                 plan.count[l]);
    if (plan.topk[l] * plan.block % kTile != 0)
      return cat("it loses picks unless they are a multiple of ", kTile, " tokens, here ", plan.topk[l],
                 " blocks of ", plan.block);
  }
  if (const std::int64_t coarsest = plan.count[static_cast<std::size_t>(plan.levels)]; coarsest < kTile)
    return cat("it drops coarse tokens where there are fewer than ", kTile, ", here ", coarsest);
  return {};
}

std::string scheduler_config_json(double noise_rescale) {
  return JsonWriter()
      .add("_class_name", names_of(ModelKind::dit).scheduler_class())
      .add("noise_rescale", noise_rescale)
      .add("num_train_timesteps", kTimeSteps)
      .add("shift", 1.0)
      .pretty();
}

SchedulerConfig parse_scheduler_config(const std::string& text, const std::string& where) {
  JsonObject json(text, where);
  const std::string name = names_of(ModelKind::dit).scheduler_class();
  json.choice("_class_name", name, {name, "FlowMatchEulerDiscreteScheduler"});
  if (json.integer("num_train_timesteps", 1000, 1, 1 << 30) != 1000)
    refuse(where, "key \"num_train_timesteps\": only 1000 is supported");
  if (!json.absent_or_null("shift") && json.number("shift", 1.0, 0.0, 1e6) != 1.0)
    refuse(where, "key \"shift\": only 1 is supported");
  if (!json.absent_or_null("image_rescale") && json.number("image_rescale", 1.0, 0.0, 1e6) != 1.0)
    refuse(where, "key \"image_rescale\": only 1 is supported");
  const double scale =
      json.absent_or_null("noise_rescale") ? 1.0 : json.number("noise_rescale", 1.0, 0.0, 1e6);
  if (!(scale > 0.0)) refuse(where, cat("key \"noise_rescale\": expected a number above 0, got ", scale));
  const bool pred_x0 = json.boolean("pred_x0", false);
  for (const char* key : {"noise_size", "invert_sigmas", "use_karras_sigmas", "use_exponential_sigmas",
                          "use_beta_sigmas", "use_dynamic_shifting", "shift_terminal", "stochastic_sampling"})
    if (!json.is_off(key))
      refuse(where, cat("key \"", key, "\": it changes how images are drawn, and is not supported"),
             "set it to null to draw without it");
  // These settings belong to a shift that depends on the image size. It is off, so they change nothing.
  const std::string note = unread_note(json, {"_diffusers_version", "base_shift", "max_shift",
                                              "base_image_seq_len", "max_image_seq_len", "time_shift_type"});
  return {scale, pred_x0, note.empty() ? std::vector<std::string>() : std::vector{note}};
}

std::string cascade_scheduler_config_json() {
  return JsonWriter()
      .add("_class_name", names_of(ModelKind::pixelflow).scheduler_class())
      .add("num_stages", kCascadeStages)
      .add("num_train_timesteps", kTimeSteps)
      .pretty();
}

void check_cascade_scheduler_config(const std::string& text, const std::string& where) {
  JsonObject json(text, where);
  const std::string name = names_of(ModelKind::pixelflow).scheduler_class();
  json.choice("_class_name", name, {name});
  json.integer("num_stages", kCascadeStages, kCascadeStages, kCascadeStages);
  json.integer("num_train_timesteps", kTimeSteps, kTimeSteps, kTimeSteps);
  json.finish();
}

std::string model_index_json(ModelKind kind) {
  const KindNames& names = names_of(kind);
  return JsonWriter()
      .add("_class_name", names.pipeline)
      .add("denoiser", names.model)
      .add("scheduler", names.scheduler)
      .pretty();
}

}  // namespace llsa::nn

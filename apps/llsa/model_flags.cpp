#include "apps/llsa/model_flags.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <map>

#include "core/closest.h"

namespace llsa::apps {
namespace {

constexpr long kMostSize =
    1 << 20;  // of any extent on the command line; the products are checked where tensors are made

int parse_int(const std::string& flag, const std::string& text, long least, long most) {
  char* end = nullptr;
  errno = 0;
  const long value = std::strtol(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || errno != 0 || value < least || value > most) {
    throw UsageError(cat("--", flag, " takes an integer from ", least, " to ", most, ", got '", text, "'"));
  }
  return static_cast<int>(value);
}

template <class Kind>
Kind parse_kind(const std::string& flag, const std::string& text, std::initializer_list<Kind> kinds) {
  std::vector<std::string> known;
  for (const Kind kind : kinds) {
    if (nn::name_of(kind) == text) return kind;
    known.push_back(nn::name_of(kind));
  }
  throw UsageError(cat("--", flag, " takes one of ", listed(known), ", got '", text, "'"),
                   did_you_mean(text, known));
}

std::string bool_text(bool value) { return value ? "true" : "false"; }

std::string list_text(const std::vector<int>& values) {
  std::string text;
  for (const int value : values) {
    if (!text.empty()) text += ',';
    text += cat(value);
  }
  return text;
}

std::vector<int> parse_list(const std::string& flag, const std::string& text) {
  std::vector<int> values;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t comma = std::min(text.find(',', begin), text.size());
    values.push_back(parse_int(flag, text.substr(begin, comma - begin), 1, kMostSize));
    begin = comma + 1;
  }
  return values;
}

}  // namespace

const std::vector<ModelFlag>& model_flags() {
  using C = const nn::DitConfig&;
  static const std::vector<ModelFlag> flags = {
      {"size", "SIZE", "image size in pixels: HxW, or N for both sides",
       [](C c) { return c.height == c.width ? cat(c.height) : cat(c.height, "x", c.width); }},
      {"dim", "INT", "width of the model (heads x head dimension)", [](C c) { return cat(c.channels()); }},
      {"depth", "INT", "number of blocks", [](C c) { return cat(c.layers); }},
      {"heads", "INT", "attention heads", [](C c) { return cat(c.heads); }},
      {"patch", "INT", "pixels per side of a token", [](C c) { return cat(c.patch); }},
      {"attention", "WORD", "full, llsa, vsa, sla or auto",
       [](C c) { return cat(nn::name_of(c.attention)); }},
      {"block", "INT", "sparse attention: tokens per block (B)", [](C c) { return cat(c.llsa.block); }},
      {"topk", "LIST", "blocks selected per query (K); for LLSA also K_1,K_2,.. from the finest level",
       [](C c) { return list_text(c.llsa.topk); }},
      {"levels", "INT", "LLSA: coarse levels (L), or auto",
       [](C c) { return c.llsa.levels < 0 ? "auto" : cat(c.llsa.levels); }},
      {"enrich", "INT", "LLSA: levels whose coarse tokens are attended (L_e), or all",
       [](C c) { return c.llsa.enriched < 0 ? "all" : cat(c.llsa.enriched); }},
      {"reweight", "BOOL", "LLSA: weigh coarse tokens by what they cover",
       [](C c) { return bool_text(c.llsa.reweight); }},
      {"own-block", "BOOL", "LLSA: a query's own block is always picked",
       [](C c) { return bool_text(c.llsa.own); }},
      {"vsa-gate", "BOOL", "VSA: a gate for the attention over block means",
       [](C c) { return bool_text(c.vsa_gate); }},
      {"qk-norm", "BOOL", "RMSNorm of queries and keys", [](C c) { return bool_text(c.qk_norm); }},
      {"reorder", "BOOL", "Morton order of the tokens", [](C c) { return bool_text(c.reorder); }},
      {"pred-x0", "BOOL", "the network's output is the image, not the flow",
       [](C c) { return bool_text(c.pred_x0); }},
      {"pos-embed", "BOOL", "learned position embedding", [](C c) { return bool_text(c.pos_embed); }},
      {"init", "WORD", "adaln_zero or published", [](C c) { return cat(nn::name_of(c.init)); }},
  };
  return flags;
}

bool parse_bool(const std::string& flag, const std::string& text) {
  if (text.empty() || text == "true" || text == "on" || text == "1") return true;
  if (text == "false" || text == "off" || text == "0") return false;
  throw UsageError(cat("--", flag, " takes true or false, got '", text, "'"));
}

std::pair<int, int> parse_size(const std::string& text) {
  const std::size_t x = text.find('x');
  const int height = parse_int("size", text.substr(0, x), 1, kMostSize);
  return {height, x == std::string::npos ? height : parse_int("size", text.substr(x + 1), 1, kMostSize)};
}

void apply_settings(nn::TrainOptions& options, const FlagTexts& flags) {
  for (const auto& [flag, text] : flags) {
    for (const nn::Setting& setting : nn::train_settings()) {
      if (flag != setting.flag) continue;
      try {
        nn::set_from_text(options, setting, text);
      } catch (const ValueError& error) {
        throw UsageError(error.what(), error.hint());
      }
    }
  }
}

void apply_model_flags(nn::DitConfig& config, const FlagTexts& flags) {
  const std::map<std::string, std::string> texts(flags.begin(), flags.end());
  const auto given = [&](const char* flag) { return texts.count(flag) != 0; };
  const auto text = [&](const char* flag) { return texts.at(flag); };

  if (given("size")) {
    std::tie(config.height, config.width) = parse_size(text("size"));
    config.rope_size.reset();
  }
  if (given("dim") || given("heads")) {
    const int dim = given("dim") ? parse_int("dim", text("dim"), 1, kMostSize) : config.channels();
    const int heads = given("heads") ? parse_int("heads", text("heads"), 1, kMostSize) : config.heads;
    if (dim % heads != 0) throw UsageError(cat("--dim ", dim, " is not divisible by ", heads, " heads"));
    config.heads = heads;
    config.head_dim = dim / heads;
  }
  if (given("depth")) config.layers = parse_int("depth", text("depth"), 1, kMostSize);
  if (given("patch")) config.patch = parse_int("patch", text("patch"), 1, kMostSize);
  if (given("attention")) {
    using Kind = nn::AttentionKind;
    config.attention = parse_kind("attention", text("attention"),
                                  {Kind::full, Kind::llsa, Kind::vsa, Kind::sla, Kind::automatic});
  }
  if (given("block")) config.llsa.block = parse_int("block", text("block"), 2, kMostSize);
  if (given("topk")) config.llsa.topk = parse_list("topk", text("topk"));
  if (given("levels"))
    config.llsa.levels = text("levels") == "auto" ? -1 : parse_int("levels", text("levels"), 0, 62);
  if (given("enrich"))
    config.llsa.enriched = text("enrich") == "all" ? -1 : parse_int("enrich", text("enrich"), 0, 62);
  if (given("reweight")) config.llsa.reweight = parse_bool("reweight", text("reweight"));
  if (given("own-block")) config.llsa.own = parse_bool("own-block", text("own-block"));
  if (given("vsa-gate")) config.vsa_gate = parse_bool("vsa-gate", text("vsa-gate"));
  if (given("qk-norm")) config.qk_norm = parse_bool("qk-norm", text("qk-norm"));
  if (given("reorder")) config.reorder = parse_bool("reorder", text("reorder"));
  if (given("pred-x0")) config.pred_x0 = parse_bool("pred-x0", text("pred-x0"));
  if (given("pos-embed")) config.pos_embed = parse_bool("pos-embed", text("pos-embed"));
  if (given("init")) {
    using Kind = nn::InitKind;
    config.init = parse_kind("init", text("init"), {Kind::adaln_zero, Kind::published});
  }
}

}  // namespace llsa::apps

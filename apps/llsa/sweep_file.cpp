#include "apps/llsa/sweep_file.h"

#include <algorithm>
#include <set>

#include "core/closest.h"
#include "core/error.h"
#include "core/number.h"
#include "nn/json.h"

namespace llsa::apps {
namespace {

using Entries = std::vector<std::pair<std::string, std::string>>;  // keys and the JSON text of their values

void check_name(const std::string& where, const std::string& what, const std::string& name) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.' || c == '=' || c == '+';
  };
  if (name.empty() || name.front() == '.' || !std::all_of(name.begin(), name.end(), fits))
    throw ValueError(cat("[", where, "] the ", what, " \"", name,
                         "\" becomes the name of a file: expected letters, digits and - _ . = +"));
}

std::string json_of(const Entries& entries) {
  std::string text = "{";
  for (const auto& [key, value] : entries) text += cat(text.size() > 1 ? ", " : "", "\"", key, "\": ", value);
  return text + "}";
}

/// The entries of the base; where a variant has the same key, the variant's value.
Entries on_top(Entries base, const Entries& changes) {
  for (const auto& change : changes) {
    const auto found = std::find_if(base.begin(), base.end(),
                                    [&](const auto& entry) { return entry.first == change.first; });
    if (found == base.end())
      base.push_back(change);
    else
      found->second = change.second;
  }
  return base;
}

void check_free(const std::string& where, const Entries& entries) {
  for (const auto& [key, value] : entries)
    if (key == "seed" || key == "init_from")
      throw ValueError(cat("[", where, "] \"", key, "\" is set by the sweep"),
                       key == "seed" ? "use \"seeds\" of the sweep" : "use \"from\" of a variant");
}

std::vector<std::pair<std::string, double>> numbers_of(const nn::TrainOptions& options) {
  std::vector<std::pair<std::string, double>> numbers;
  for (const auto& [key, text] : nn::JsonObject(options.json(), "configuration").entries())
    if (const auto value = as_number<double>(text)) numbers.emplace_back(key, *value);
  return numbers;
}

/// Sorts the variants: each comes after the one that it starts from. Otherwise the order of the file stays.
std::vector<SweepVariant> in_order(std::vector<SweepVariant> variants, const std::string& where) {
  std::set<std::string> names, placed;
  for (const SweepVariant& variant : variants) names.insert(variant.name);
  for (const SweepVariant& variant : variants)
    if (!variant.from.empty() && names.count(variant.from) == 0)
      throw ValueError(
          cat("[", where, ": ", variant.name, "] \"from\": there is no variant \"", variant.from, '"'),
          did_you_mean(variant.from, {names.begin(), names.end()}));
  std::vector<SweepVariant> ordered;
  while (!variants.empty()) {
    const auto next = std::find_if(variants.begin(), variants.end(), [&](const SweepVariant& variant) {
      return variant.from.empty() || placed.count(variant.from) > 0;
    });
    if (next == variants.end())
      throw ValueError(
          cat("[", where, "] \"from\" goes in a circle through the variant \"", variants[0].name, '"'));
    placed.insert(next->name);
    ordered.push_back(std::move(*next));
    variants.erase(next);
  }
  return ordered;
}

}  // namespace

const std::vector<SweepMeasure>& sweep_measures() {
  static const std::vector<SweepMeasure> measures = {
      {"held_out_loss", "held-out loss", 4},  {"best_held_out_loss", "best held-out loss", 4},
      {"score_over_real", "score / real", 2}, {"fid", "FID", 2},
      {"loss", "training loss", 4},           {"tokens_per_second", "tokens/s", 0},
      {"step_ms", "ms per step", 2},          {"peak_mib", "peak memory, MiB", 1}};
  return measures;
}

Sweep parse_sweep(const std::string& text, const std::string& where) {
  nn::JsonObject json(text, where);
  const Entries base = json.object("base").entries();
  check_free(cat(where, ": base"), base);

  Sweep sweep;
  nn::JsonObject variants = json.object("variants");
  for (const auto& [name, ignored] : variants.entries()) {
    check_name(where, "variant", name);
    nn::JsonObject changes = variants.object(name);
    SweepVariant variant;
    variant.name = name;
    variant.from = changes.string("from", "");
    Entries entries = changes.entries();
    std::erase_if(entries, [](const auto& entry) { return entry.first == "from"; });
    const std::string place = cat(where, ": ", name);
    check_free(place, entries);
    variant.options = nn::TrainOptions::parse(json_of(on_top(base, entries)), place);
    if (variant.options.data.empty())
      throw ValueError(cat("[", place, "] \"data\": expected a folder of images"), "name it in \"base\"");
    variant.numbers = numbers_of(variant.options);
    sweep.variants.push_back(std::move(variant));
  }
  if (sweep.variants.empty()) throw ValueError(cat("[", where, "] \"variants\": expected at least one"));
  sweep.variants = in_order(std::move(sweep.variants), where);

  sweep.seeds = json.integers("seeds", {0}, 0, std::int64_t{1} << 53);
  if (sweep.seeds.empty() || std::set(sweep.seeds.begin(), sweep.seeds.end()).size() != sweep.seeds.size())
    throw ValueError(cat("[", where, "] \"seeds\": expected different numbers"));

  std::vector<std::string> axes;
  for (const SweepMeasure& measure : sweep_measures()) axes.emplace_back(measure.key);
  std::set<std::string> keys;
  for (const auto& [key, value] : nn::JsonObject(sweep.variants[0].options.json(), where).entries())
    keys.insert(key);
  for (const SweepVariant& variant : sweep.variants)
    for (const auto& [key, value] : variant.numbers)
      if (std::find(axes.begin(), axes.end(), key) == axes.end()) axes.push_back(key);
  nn::JsonObject plots = json.object("plots");
  for (const auto& [name, ignored] : plots.entries()) {
    check_name(where, "plot", name);
    nn::JsonObject plot = plots.object(name);
    const SweepPlot made = {name, plot.choice("x", "tokens_per_second", axes),
                            plot.choice("y", "held_out_loss", axes), plot.string("series", "")};
    if (!made.series.empty() && keys.count(made.series) == 0)
      throw ValueError(cat("[", where, ": plots: ", name,
                           "] \"series\": expected a key of the configuration, got \"", made.series, '"'));
    plot.finish();
    sweep.plots.push_back(made);
  }
  json.finish();
  return sweep;
}

}  // namespace llsa::apps
